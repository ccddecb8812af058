"""Every error that ATM raises.

AtmError
├── SettingsError            a setting cannot be used; the message names it
├── SchemaBehindError        the database needs `atm db upgrade`
├── SchemaNewerError         the database needs a newer ATM
├── SchemaRefusedError       the database does not let its schema be read or changed, or is not ATM's
├── ServiceError             an answer that a caller of the API gets, with a gRPC code
│   ├── InvalidArgumentError     .violations: field → what is wrong with it
│   │   └── PacketTooLargeError      more than the database takes at once
│   ├── TaskNotFoundError        .task_id
│   ├── RequestReusedError       the request's id has made another task
│   ├── PreconditionError        unknown or disabled type
│   ├── UnavailableError         SQL or the server is out of reach; try again
│   │   ├── BrokerUnavailableError   Redis is; SQL has everything
│   │   └── DatabaseRefusedError     SQL refuses ATM: somebody has to mend it
│   ├── ExhaustedError           too big, or too busy
│   ├── DeadlineError            the call took longer than its deadline
│   ├── PermissionDeniedError        the server refuses the caller
│   └── UnexpectedError          anything else; a defect
├── WaitTimeoutError         wait_for_task gave up; the task goes on
└── NonRetryableError        a handler raises it: fail now, without a retry

TaskInterrupted (a BaseException, so that `except Exception` lets it through)
├── TaskCancelled            raised in a handler whose task is cancelled
└── TaskTimedOut             raised in a handler that is out of time
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

#: The domain of every ErrorInfo that ATM answers with.
ERROR_DOMAIN = "atm"


class AtmError(Exception):
    """The base of every error of ATM."""


class SettingsError(AtmError):
    """A setting cannot be used. The message names it and says what it takes."""


class SchemaBehindError(AtmError):
    """The database's schema is older than this version needs."""


class SchemaNewerError(AtmError):
    """The database's schema was made by a newer version, and this one cannot go on with it."""


class SchemaRefusedError(AtmError):
    """The database does not let its schema be read or changed, or is not ATM's. The message says why."""


@dataclass(frozen=True)
class FieldViolation:
    """One field of a request and what is wrong with it."""

    field: str
    description: str


class ServiceError(AtmError):
    """An answer other than OK.

    `code` is the name of the gRPC status code, `reason` a constant in
    UPPER_SNAKE for programs, `metadata` more facts for programs, `retry_after`
    the seconds after which another try makes sense (None: it does not).
    """

    code: ClassVar[str] = "UNKNOWN"
    default_reason: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after


class InvalidArgumentError(ServiceError):
    """The request is malformed; nothing was changed. `violations` names each field."""

    code = "INVALID_ARGUMENT"
    default_reason = "INVALID_REQUEST"

    def __init__(
        self, violations: Sequence[FieldViolation], message: str = "", *, reason: str | None = None
    ) -> None:
        text = (
            message
            or "; ".join(f"{v.field}: {v.description}" for v in violations)
            or "the request is malformed"
        )
        super().__init__(text, reason=reason)
        self.violations = tuple(violations)


class PacketTooLargeError(InvalidArgumentError):
    """More than the database takes in one packet: no other try will help, smaller ones may."""

    default_reason = "TOO_LARGE_FOR_DATABASE"

    def __init__(self, said: str) -> None:
        super().__init__([FieldViolation("payload", said)])


class TaskNotFoundError(ServiceError):
    """No task has this id."""

    code = "NOT_FOUND"
    default_reason = "TASK_NOT_FOUND"

    def __init__(self, task_id: str, message: str = "") -> None:
        super().__init__(message or f"no task has the id {task_id!r}", metadata={"task_id": task_id[:64]})
        self.task_id = task_id


class RequestReusedError(ServiceError):
    """A request's id was used before, for something else. `task_id` in the metadata is what it made."""

    code = "ALREADY_EXISTS"
    default_reason = "REQUEST_ID_REUSED"


class PreconditionError(ServiceError):
    """The request is well-formed, but the system's state forbids it."""

    code = "FAILED_PRECONDITION"
    default_reason = "FAILED_PRECONDITION"


class UnavailableError(ServiceError):
    """Out of reach for now. Safe to try again after `retry_after` seconds."""

    code = "UNAVAILABLE"
    default_reason = "UNAVAILABLE"


class BrokerUnavailableError(UnavailableError):
    """Redis is out of reach, or refuses. Nothing is lost: SQL has every task, and the relay sends it."""


class DatabaseRefusedError(UnavailableError):
    """The database refuses ATM: its operator has to mend something before another try makes sense."""

    code = "FAILED_PRECONDITION"
    default_reason = "DATABASE_REFUSES"


class ExhaustedError(ServiceError):
    """Too big for the server, or the server is too busy."""

    code = "RESOURCE_EXHAUSTED"
    default_reason = "RESOURCE_EXHAUSTED"


class DeadlineError(ServiceError):
    """The call took longer than its deadline; whether it took effect is unknown."""

    code = "DEADLINE_EXCEEDED"
    default_reason = "DEADLINE_EXCEEDED"


class PermissionDeniedError(ServiceError):
    """The server refuses this caller."""

    code = "PERMISSION_DENIED"
    default_reason = "PERMISSION_DENIED"


class UnexpectedError(ServiceError):
    """A defect, or an answer that this client does not know."""

    code = "INTERNAL"
    default_reason = "INTERNAL"


class WaitTimeoutError(AtmError):
    """The task did not end within the time that the caller would wait. It goes on."""

    def __init__(self, task_id: str, status: str, seconds: float) -> None:
        super().__init__(f"task {task_id} is still {status} after {seconds:g} s")
        self.task_id = task_id
        self.status = status
        self.seconds = seconds


class NonRetryableError(AtmError):
    """A handler raises it, or a class derived from it, to fail the task without a retry."""


class TaskInterrupted(BaseException):
    """Raised in a handler to stop it. Clean up, and let it pass."""


class TaskCancelled(TaskInterrupted):
    """The task was cancelled."""


class TaskTimedOut(TaskInterrupted):
    """The attempt is out of time."""
