"""Errors as gRPC answers: a code, a message for people, and details for programs."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from atm.errors import ERROR_DOMAIN, InvalidArgumentError, ServiceError, TaskNotFoundError

#: gRPC refuses headers of more than 8 KB, where the details travel.
_MAX_TEXT = 1000
_MAX_VIOLATIONS = 10


def status_of(error: ServiceError) -> grpc.Status:
    """What `context.abort_with_status` takes."""
    details: list[Any] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata)
    ]
    if isinstance(error, InvalidArgumentError):
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=violation.field[:_MAX_TEXT], description=violation.description[:_MAX_TEXT]
                    )
                    for violation in error.violations[:_MAX_VIOLATIONS]
                ]
            )
        )
    if isinstance(error, TaskNotFoundError):
        details.append(
            error_details_pb2.ResourceInfo(
                resource_type="task", resource_name=error.task_id[:64], description="no such task"
            )
        )
    if error.retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(
        code=code_pb2.Code.Value(error.code),
        message=error.message[:_MAX_TEXT],
        details=[_packed(d) for d in details],
    )
    answer: grpc.Status = rpc_status.to_status(status)
    return answer


def _packed(detail: Any) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
