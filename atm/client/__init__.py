"""The client library: create tasks, follow them, cancel them, read them back.

    from atm.client import Client

    with Client("localhost:9090") as client:
        task = client.create_task("send_email", {"to": "a@example.org"})
        task = client.wait_for_task(task.task_id, timeout=30)

`AsyncClient` has the same methods as coroutines. Errors are those of
`atm.errors`; the ones that a caller is likely to catch can be imported from
here too.
"""

from atm.client.aio import AsyncClient
from atm.client.requests import DEFAULT_DEADLINE_SECONDS, RetryLike
from atm.client.results import (
    FINAL_STATUSES,
    CancelResult,
    Server,
    Statistics,
    Task,
    TaskLog,
    TaskPage,
    Worker,
)
from atm.client.sync import Client
from atm.errors import (
    AtmError,
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
    WaitTimeoutError,
)
from atm.host_port import DEFAULT_ADDRESS

__all__ = [
    "DEFAULT_ADDRESS",
    "DEFAULT_DEADLINE_SECONDS",
    "FINAL_STATUSES",
    "AsyncClient",
    "AtmError",
    "CancelResult",
    "Client",
    "DeadlineError",
    "ExhaustedError",
    "FieldViolation",
    "InvalidArgumentError",
    "PermissionDeniedError",
    "PreconditionError",
    "RequestReusedError",
    "RetryLike",
    "Server",
    "ServiceError",
    "Statistics",
    "Task",
    "TaskLog",
    "TaskNotFoundError",
    "TaskPage",
    "UnavailableError",
    "UnexpectedError",
    "WaitTimeoutError",
    "Worker",
]
