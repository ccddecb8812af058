"""The one place where gRPC's errors become those of `atm.errors`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from atm.errors import (
    ERROR_DOMAIN,
    DeadlineError,
    ExhaustedError,
    FieldViolation,
    InvalidArgumentError,
    PermissionDeniedError,
    PreconditionError,
    RequestReusedError,
    ServiceError,
    TaskNotFoundError,
    UnavailableError,
    UnexpectedError,
)

#: The reason of an UnavailableError that no server of ATM wrote: nobody answered.
UNREACHABLE = "UNREACHABLE"

_DETAILS_KEY = "grpc-status-details-bin"
_Code = grpc.StatusCode
_KINDS: dict[grpc.StatusCode, type[ServiceError]] = {
    _Code.FAILED_PRECONDITION: PreconditionError,
    _Code.ALREADY_EXISTS: RequestReusedError,
    _Code.ABORTED: PreconditionError,
    _Code.UNAVAILABLE: UnavailableError,
    # Not by the caller (asyncio raises CancelledError then, and a closed client
    # ValueError): the connection went away under the call.
    _Code.CANCELLED: UnavailableError,
    _Code.RESOURCE_EXHAUSTED: ExhaustedError,
    _Code.DEADLINE_EXCEEDED: DeadlineError,
    _Code.PERMISSION_DENIED: PermissionDeniedError,
    _Code.UNAUTHENTICATED: PermissionDeniedError,
}


def translate(error: grpc.RpcError, *, task_id: str = "") -> ServiceError:
    """The typed error for what a call of either client raised; `task_id` is the one asked for.

    Code and text come from the status; reason, metadata, violations and the
    wait before another try from the google.rpc.Status in the trailers, where
    the server sent one. An unknown code gives UnexpectedError.
    """
    # grpc.RpcError says nothing of them, but what is raised always has them.
    answer: Any = error
    code: grpc.StatusCode = answer.code()
    message: str = answer.details() or code.name
    details = _Details(answer.trailing_metadata() or ())
    translated = _build(code, message, details, task_id)
    translated.metadata.update(details.metadata)
    translated.retry_after = details.retry_after
    if details.reason:
        translated.reason = details.reason
    elif translated.code != code.name:
        translated.reason = code.name
    elif code is _Code.UNAVAILABLE:
        translated.reason = UNREACHABLE
    return translated


def _build(code: grpc.StatusCode, message: str, details: _Details, task_id: str) -> ServiceError:
    if code in (_Code.INVALID_ARGUMENT, _Code.OUT_OF_RANGE):
        return InvalidArgumentError(details.violations, message)
    if code is _Code.NOT_FOUND:
        return TaskNotFoundError(details.metadata.get("task_id") or task_id, message)
    if code is _Code.UNIMPLEMENTED:
        return UnexpectedError(f"the server does not offer this call ({message})")
    return _KINDS.get(code, UnexpectedError)(message)


class _Details:
    """What the trailers say beyond the code and the text; empty where they say nothing readable."""

    def __init__(self, trailers: Iterable[tuple[str, str | bytes]]) -> None:
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.violations: list[FieldViolation] = []
        self.retry_after: float | None = None
        for key, value in trailers:
            if key == _DETAILS_KEY and isinstance(value, bytes):
                try:
                    self._read(value)
                except DecodeError:
                    continue  # a proxy's or a foreign server's; the code still says enough

    def _read(self, value: bytes) -> None:
        for packed in status_pb2.Status.FromString(value).details:
            info = error_details_pb2.ErrorInfo()
            request = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if packed.Unpack(info):
                # The constants of another domain could be taken for ATM's.
                if info.domain == ERROR_DOMAIN:
                    self.reason = info.reason
                    self.metadata = dict(info.metadata)
            elif packed.Unpack(request):
                self.violations += [FieldViolation(v.field, v.description) for v in request.field_violations]
            elif packed.Unpack(retry):
                self.retry_after = retry.retry_delay.ToNanoseconds() / 1e9
