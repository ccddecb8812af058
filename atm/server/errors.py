"""Errors as gRPC answers: a code, a message for people, and details for programs.

They travel in trailers, of which a client takes 8 KB: the message with each
byte that is no plain ASCII as three, and once more in the details, which
travel in base64. A client gets no answer at all, but CANCELLED or INTERNAL,
when they are more; so they are measured here as they will be sent, and cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import any as any_message
from google.protobuf import duration
from google.rpc import code_pb2, status_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo, RetryInfo
from grpc_status import rpc_status

from atm.errors import ERROR_DOMAIN, FieldViolation, InvalidArgumentError, ServiceError, TaskNotFoundError
from atm.values import storable

#: Bytes of message and details as they are sent; the rest of 8 KB is for the other trailers.
MAX_SENT = 7_000
#: ... of the message, both times: 1000 characters of ASCII.
_MAX_MESSAGE_SENT = 2_400
#: ... of all metadata: what the longest names that can be stored need.
_MAX_METADATA_SENT = 3_400
#: ... of a text of a field that is wrong. At least one of them always fits.
_MAX_TEXT_SENT = 600
_MAX_VIOLATIONS = 10
#: What a message within a message costs beside its texts.
_FRAME = 16
_CUT = "…"


def status_of(error: ServiceError) -> grpc.Status:
    """What `context.abort_with_status` takes: at most MAX_SENT bytes as they are sent.

    Of fields that are wrong the first 10 are named, or fewer where their texts
    are long; a last one without a path says how many are not.
    """
    message = _fitting(error.message, _MAX_MESSAGE_SENT, _sent_twice)
    details: list[Any] = [ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=_metadata(error))]
    if isinstance(error, TaskNotFoundError):
        name = storable(error.task_id[:64])
        details.append(ResourceInfo(resource_type="task", resource_name=name, description="no such task"))
    if error.retry_after is not None:
        delay = duration.from_milliseconds(round(error.retry_after * 1000))
        details.append(RetryInfo(retry_delay=delay))
    if isinstance(error, InvalidArgumentError):
        room = MAX_SENT - _sent_of(_packed(error, message, details))
        # Second, where readers have always found it.
        details.insert(1, _bad_request(error.violations, room))
    answer: grpc.Status = rpc_status.to_status(_packed(error, message, details))
    return answer


def _packed(error: ServiceError, message: str, details: Sequence[Any]) -> status_pb2.Status:
    code = code_pb2.Code.Value(error.code)
    return status_pb2.Status(code=code, message=message, details=map(any_message.pack, details))


def _sent_of(status: status_pb2.Status) -> int:
    return _percent_encoded(status.message) + _base64(status.ByteSize())


def _metadata(error: ServiceError) -> dict[str, str]:
    room, kept = _MAX_METADATA_SENT, {}
    for name, value in error.metadata.items():
        text = _fitting(value, room - _base64(len(name) + _FRAME), _sent_once)
        room -= _base64(len(name) + _FRAME) + _sent_once(text)
        kept[name] = text
    return kept


def _bad_request(violations: Sequence[FieldViolation], room: int) -> BadRequest:
    kept: list[BadRequest.FieldViolation] = []
    left_out = len(violations)
    # What says how many are left out has its room, too.
    room -= 2 * _base64(_FRAME) + _base64(len(_left_out(left_out)) + _FRAME)
    for violation in violations[:_MAX_VIOLATIONS]:
        shown = BadRequest.FieldViolation(
            field=_fitting(violation.field, _MAX_TEXT_SENT, _sent_once),
            description=_fitting(violation.description, _MAX_TEXT_SENT, _sent_once),
        )
        room -= _base64(shown.ByteSize() + _FRAME)
        if room < 0:
            break
        kept.append(shown)
        left_out -= 1
    if left_out:
        kept.append(BadRequest.FieldViolation(description=_left_out(left_out)))
    return BadRequest(field_violations=kept)


def _left_out(count: int) -> str:
    return f"{count} more fields are wrong" if count > 1 else "one more field is wrong"


def _fitting(text: str, room: int, sent: Any) -> str:
    """The text, or as much of its beginning as is sent in `room` bytes, with a sign that it was cut."""
    # No character is sent in less than a byte.
    text, whole = storable(text[: max(room, 0) + 1]), text
    if len(text) >= len(whole) and sent(text) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if sent(text[:middle] + _CUT) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low] + _CUT if low else ""


def _percent_encoded(text: str) -> int:
    data = text.encode()
    plain = sum(0x20 <= byte <= 0x7E and byte != 0x25 for byte in data)
    return 3 * len(data) - 2 * plain


def _base64(size: int) -> int:
    return -(-size // 3) * 4


def _sent_once(text: str) -> int:
    return _base64(len(text.encode()))


def _sent_twice(text: str) -> int:
    return _percent_encoded(text) + _sent_once(text)
