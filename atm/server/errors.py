"""Errors as gRPC answers: a code, a message for people, and details for programs."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import any as any_message
from google.protobuf import duration
from google.rpc import code_pb2, status_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo, RetryInfo
from grpc_status import rpc_status

from atm.errors import ERROR_DOMAIN, InvalidArgumentError, ServiceError, TaskNotFoundError

#: gRPC refuses headers of more than 8 KB, where the details travel.
_MAX_TEXT = 1000
_MAX_VIOLATIONS = 10


def status_of(error: ServiceError) -> grpc.Status:
    """What `context.abort_with_status` takes."""
    details: list[Any] = [ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata)]
    if isinstance(error, InvalidArgumentError):
        violations = [
            BadRequest.FieldViolation(field=v.field[:_MAX_TEXT], description=v.description[:_MAX_TEXT])
            for v in error.violations[:_MAX_VIOLATIONS]
        ]
        details.append(BadRequest(field_violations=violations))
    if isinstance(error, TaskNotFoundError):
        name = error.task_id[:64]
        details.append(ResourceInfo(resource_type="task", resource_name=name, description="no such task"))
    if error.retry_after is not None:
        delay = duration.from_milliseconds(round(error.retry_after * 1000))
        details.append(RetryInfo(retry_delay=delay))
    status = status_pb2.Status(
        code=code_pb2.Code.Value(error.code),
        message=error.message[:_MAX_TEXT],
        details=map(any_message.pack, details),
    )
    answer: grpc.Status = rpc_status.to_status(status)
    return answer
