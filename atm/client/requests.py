"""From arguments to the messages of the wire.

Only what the wire cannot carry is refused here, with the InvalidArgumentError
that the server would have answered; whether a value makes sense is the
server's to say, so that all clients hear the same.
"""

from __future__ import annotations

import inspect
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol

from atm.errors import InvalidArgumentError
from atm.rpc import task_service_pb2 as pb
from atm.values import check_text, encode_values, refuse

#: How long one call may take, in seconds, its retries included.
DEFAULT_DEADLINE_SECONDS = 10.0
#: The priority of a ListTasksRequest that means any.
ANY_PRIORITY = -1

Priority = Literal["normal", "high", 0, 1]
_PRIORITIES: dict[str, int] = {"normal": 0, "high": 1}
#: Whether listed tasks come with payload and result.
View = Literal["full", "basic"]
_VIEWS = {"full": pb.ListTasksRequest.FULL, "basic": pb.ListTasksRequest.BASIC}
#: Rows of a history that are asked for at a time.
LOG_PAGE_SIZE = 1000
#: What one BatchCreateTasks may have: tasks, and bytes. A server takes 4 MiB.
MAX_BATCH = 1000
MAX_BATCH_BYTES = 3 * 1024 * 1024
_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1


class RetryLike(Protocol):
    """What `atm.Retry` is, without a need for it here. `delay` and `max_delay` are seconds."""

    @property
    def strategy(self) -> str: ...
    @property
    def delay(self) -> float: ...
    @property
    def backoff_rate(self) -> float: ...
    @property
    def max_delay(self) -> float: ...


def create_task(
    task_type: str,
    payload: Mapping[str, Any] | None = None,
    *,
    priority: Priority = "normal",
    max_retry: int | None = None,
    timeout: float | None = None,
    retry: RetryLike | None = None,
    delay: float = 0.0,
    request_id: str | None = None,
) -> pb.CreateTaskRequest:
    """`timeout` is the seconds of one attempt, 0 for no limit; None leaves a value to the type.

    Without a `request_id` one is made up: it stays the same in every try of the call.
    """
    return pb.CreateTaskRequest(
        request_id=str(uuid.uuid4()) if request_id is None else check_text("request_id", request_id),
        task_type=check_text("task_type", task_type),
        priority=_priority(priority),
        payload=encode_values(payload),
        max_retry=None if max_retry is None else _int32("max_retry", max_retry),
        timeout_ms=None if timeout is None else _milliseconds("timeout_ms", timeout),
        delay_ms=_milliseconds("delay_ms", delay) if delay else None,
        retry=None if retry is None else _retry_policy(retry),
    )


def _retry_policy(retry: RetryLike) -> pb.RetryPolicy:
    return pb.RetryPolicy(
        strategy=retry.strategy,
        delay_ms=_milliseconds("retry.delay_ms", retry.delay),
        backoff_rate=retry.backoff_rate,
        max_delay_ms=_milliseconds("retry.max_delay_ms", retry.max_delay),
    )


def create_tasks(tasks: Sequence[Mapping[str, Any]]) -> pb.BatchCreateTasksRequest:
    """Each mapping holds arguments of `create_task`; what it may leave out, it may leave out here."""
    known = inspect.signature(create_task).parameters
    request = pb.BatchCreateTasksRequest()
    for place, task in enumerate(tasks):
        unknown = sorted(set(task) - set(known))
        if unknown or "task_type" not in task:
            takes = f"takes {', '.join(known)}"
            refuse(f"tasks[{place}]", takes + (f", not {unknown[0]!r}" if unknown else ""))
        request.tasks.append(create_task(**task))
    return request


def batches(tasks: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """The same tasks in parts that a server takes in one call each; one that is larger stands alone."""
    start = size = 0
    for place, task in enumerate(tasks):
        needed = 0
        # What cannot be sent is refused when its part is: there it has its place.
        with suppress(InvalidArgumentError):
            needed = create_tasks([task]).ByteSize()
        if place > start and (place - start == MAX_BATCH or size + needed > MAX_BATCH_BYTES):
            yield tasks[start:place]
            start, size = place, 0
        size += needed
    if start < len(tasks):
        yield tasks[start:]


def wait_task(task_id: str, timeout_ms: int) -> pb.WaitTaskRequest:
    return pb.WaitTaskRequest(task_id=check_text("task_id", task_id), timeout_ms=timeout_ms)


def get_task(task_id: str) -> pb.GetTaskRequest:
    return pb.GetTaskRequest(task_id=check_text("task_id", task_id))


def cancel_task(task_id: str, requested_by: str) -> pb.CancelTaskRequest:
    return pb.CancelTaskRequest(
        task_id=check_text("task_id", task_id), requested_by=check_text("requested_by", requested_by)
    )


def get_task_logs(task_id: str, page_token: str = "") -> pb.GetTaskLogsRequest:
    """One page of a history; a server that knows none answers with all of it."""
    return pb.GetTaskLogsRequest(
        task_id=check_text("task_id", task_id), page_size=LOG_PAGE_SIZE, page_token=page_token
    )


def list_tasks(
    *,
    status: str | None,
    priority: Priority | None,
    task_type: str | None,
    page: int,
    page_size: int,
    page_token: str = "",
    view: View = "full",
) -> pb.ListTasksRequest:
    """None means any."""
    if view not in _VIEWS:
        refuse("view", f"is {view!r}; it takes full or basic")
    return pb.ListTasksRequest(
        status=check_text("status", status or ""),
        priority=ANY_PRIORITY if priority is None else _priority(priority),
        task_type=check_text("task_type", task_type or ""),
        page=_int32("page", page),
        page_size=_int32("page_size", page_size),
        page_token=check_text("page_token", page_token),
        view=_VIEWS[view],
    )


def _priority(value: Priority) -> int:
    number = _PRIORITIES.get(value.lower()) if isinstance(value, str) else value
    # -1 would list tasks of any priority, which None is for.
    if number not in (0, 1):
        refuse("priority", f"is {value!r}; it takes normal (0) or high (1)")
    return int(number)


def _int32(field: str, value: int) -> int:
    if not -_INT32_MAX <= value <= _INT32_MAX:
        refuse(field, "is out of range")
    return value


def _milliseconds(field: str, seconds: float) -> int:
    """Whole milliseconds, at least one for any time above 0: 0 has a meaning of its own."""
    if not math.isfinite(seconds) or not 0 <= seconds * 1000 < _INT64_MAX:
        refuse(field, f"{seconds} seconds is no time; it takes 0 or more")
    return math.ceil(seconds * 1000 - 1e-6) if seconds else 0
