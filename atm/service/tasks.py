"""What clients can ask for: create, read, cancel and list tasks, and see the workers."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import uuid_utils
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from atm.errors import PreconditionError, RequestReusedError, TaskNotFoundError, UnavailableError
from atm.models import (
    FINAL,
    Leader,
    LogType,
    Reason,
    Server,
    Status,
    Task,
    TaskConfig,
    TaskLog,
    Worker,
    WorkerStatus,
    now,
)
from atm.service import validation
from atm.service.dispatch import Dispatcher
from atm.service.validation import Listing, NewTask
from atm.store import logs, servers, tasks, workers
from atm.store.database import Database
from atm.store.tasks import Dispatch, Filter, Move
from atm.store.types import TypeCache

T = TypeVar("T")

#: How many known types an answer about an unknown one suggests.
_SUGGESTIONS = 3


@dataclass(frozen=True)
class CancelAnswer:
    """What became of a request to cancel; `success` is False when the task had ended."""

    success: bool
    message: str


@dataclass(frozen=True)
class Statistics:
    """How many tasks and workers there are."""

    by_status: dict[str, int]
    by_type: dict[str, int]
    workers: int
    capacity: int
    load: int


class TaskService:
    """The use cases of clients. Every method may block on SQL; call it from a thread.

    Methods raise the ServiceErrors of atm.errors. `relay_grace` is how many
    seconds a fresh task's message may take before the relay looks after it;
    `worker_lease` how many without a heartbeat make a worker LOST.
    """

    def __init__(
        self,
        database: Database,
        dispatcher: Dispatcher,
        *,
        accept_unknown_types: bool = False,
        relay_grace: float = 3.0,
        worker_lease: float = 8.0,
    ) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._types = TypeCache(database)
        self._accept_unknown_types = accept_unknown_types
        self._relay_grace = timedelta(seconds=relay_grace)
        self._worker_lease = timedelta(seconds=worker_lease)

    # -- tasks --------------------------------------------------------------

    def create(self, new: NewTask) -> Task:
        """Accepts a task: when this returns, the task and its first log row are committed.

        A request id that was used before gives the task that it made.
        """
        validation.check_new_task(new)
        task = _task_of(new, self._config_of(new.task_type), now(), self._relay_grace)
        try:
            self._database.write(lambda connection: tasks.insert_task(connection, task))
        except IntegrityError:
            # Ids of tasks are never the same: it is the request's.
            return self._task_of_request(new)
        if not new.delay_ms:
            self._dispatcher.send([Dispatch(task.task_id, 1, task.priority)])
        return task

    def _task_of_request(self, new: NewTask) -> Task:
        task = self._database.read(lambda connection: tasks.of_request(connection, new.request_id))
        if task is None:
            # It was deleted in between.
            raise UnavailableError("the request's first task is just being deleted", retry_after=1.0)
        if task.request_digest != new.digest():
            raise RequestReusedError(
                f"the request id {new.request_id!r} was used before, for another task: {task.task_id}",
                metadata={"task_id": task.task_id, "request_id": new.request_id},
            )
        return task

    def get(self, task_id: str) -> Task:
        """The task as it is now."""
        validation.check_task_id(task_id)
        return self._database.read(lambda connection: _existing(connection, task_id))

    def logs(self, task_id: str) -> Sequence[TaskLog]:
        """The whole history of a task, oldest first."""
        validation.check_task_id(task_id)

        def read(connection: Connection) -> Sequence[TaskLog]:
            _existing(connection, task_id)
            return logs.of_task(connection, task_id)

        return self._database.read(read)

    def page(self, listing: Listing) -> tuple[list[Task], int]:
        """One page of the tasks that match, newest first, and how many match in all."""
        validation.check_listing(listing)
        wanted = Filter(
            status=Status(listing.status) if listing.status else None,
            priority=None if listing.priority < 0 else listing.priority,
            task_type=listing.task_type or None,
        )
        limit = listing.page_size or validation.DEFAULT_PAGE_SIZE
        offset = (max(1, listing.page) - 1) * limit
        return self._database.read(
            lambda connection: tasks.page(connection, wanted, offset=offset, limit=limit)
        )

    def cancel(self, task_id: str, requested_by: str) -> CancelAnswer:
        """Ends a task that waits, asks a running one to end, and leaves an ended one as it is."""
        validation.check_task_id(task_id)
        validation.check_actor(requested_by)
        answer = None
        while answer is None:  # None: a worker was faster; look again
            answer = self._database.write(
                lambda connection: _cancel(connection, task_id, requested_by, now())
            )
        if answer.success:
            self._dispatcher.flag_cancelled(task_id, requested_by)
        return answer

    # -- operations ----------------------------------------------------------

    def workers(self) -> list[Worker]:
        """Every worker that has not left; one whose heartbeats stopped is LOST."""
        heard_since = now() - self._worker_lease
        found = self._database.read(workers.all_workers)
        for worker in found:
            if worker.last_heartbeat_at < heard_since:
                worker.status = WorkerStatus.LOST
        return list(found)

    def servers(self) -> tuple[list[Server], Leader]:
        """Every server that has not left, LOST where its heartbeats stopped; and who leads."""
        heard_since = now() - self._worker_lease
        found, leader = self._database.read(
            lambda connection: (servers.all_servers(connection), servers.leader(connection))
        )
        for server in found:
            if server.last_heartbeat_at < heard_since:
                server.status = WorkerStatus.LOST
        return list(found), leader

    def statistics(self) -> Statistics:
        """Counts of tasks and of the workers that live."""
        by_status, by_type = self._database.read(
            lambda connection: (tasks.count_by(connection, "status"), tasks.count_by(connection, "task_type"))
        )
        living = [worker for worker in self.workers() if worker.status != WorkerStatus.LOST]
        return Statistics(
            by_status={status: by_status.get(status, 0) for status in Status},
            by_type=by_type,
            workers=len(living),
            capacity=sum(worker.capacity for worker in living),
            load=sum(worker.load for worker in living),
        )

    # -- types ----------------------------------------------------------------

    def _config_of(self, task_type: str) -> TaskConfig:
        config = self._types.get(task_type)
        if config is None:
            if self._accept_unknown_types:
                return TaskConfig(task_type=task_type, updated_at=now())
            raise _unknown_type(task_type, self._types.names())
        if not config.enabled:
            raise PreconditionError(
                f"the task type {task_type!r} is disabled",
                reason="TASK_TYPE_DISABLED",
                metadata={"task_type": task_type},
            )
        return config


def _task_of(new: NewTask, config: TaskConfig, created_at: datetime, relay_grace: timedelta) -> Task:
    due_at = created_at + timedelta(milliseconds=new.delay_ms)
    return Task(
        task_id=str(uuid_utils.uuid7()),
        task_type=new.task_type,
        status=Status.PENDING,
        priority=new.priority,
        payload=dict(new.payload),
        max_retry=_chosen(new.max_retry, config.max_retry),
        timeout_ms=_chosen(new.timeout_ms, config.default_timeout_ms),
        retry_strategy=new.retry_strategy or config.retry_strategy,
        retry_delay_ms=_chosen(new.retry_delay_ms, config.retry_delay_ms),
        retry_backoff_rate=_chosen(new.retry_backoff_rate, config.retry_backoff_rate),
        retry_max_delay_ms=_chosen(new.retry_max_delay_ms, config.retry_max_delay_ms),
        created_at=created_at,
        due_at=due_at,
        # What waits is sent by the relay; what does not is sent now, and looked after by the relay.
        dispatch_at=due_at if new.delay_ms else created_at + relay_grace,
        request_id=new.request_id or None,
        request_digest=new.digest() if new.request_id else "",
    )


def _chosen(asked: T | None, default: T) -> T:
    return default if asked is None else asked


def _existing(connection: Connection, task_id: str) -> Task:
    task = tasks.get(connection, task_id)
    if task is None:
        raise TaskNotFoundError(task_id)
    return task


def _cancel(connection: Connection, task_id: str, requested_by: str, at: datetime) -> CancelAnswer | None:
    """The answer, or None when the task moved on between reading and writing."""
    task = _existing(connection, task_id)
    status = Status(task.status)
    if status in FINAL:
        return CancelAnswer(False, f"the task had already ended: it is {status}")
    if status is Status.PENDING:
        change = Move(
            task_id,
            status,
            task.attempt,
            Status.CANCELLED,
            f"cancelled by {requested_by} before it started"
            if not task.attempt
            else f"cancelled by {requested_by}",
            values={
                "cancel_requested_at": at,
                "cancel_requested_by": requested_by,
                "error_reason": Reason.CANCELLED,
                "error_message": f"cancelled by {requested_by}",
                "dispatch_at": None,
            },
        )
        return CancelAnswer(True, "the task is CANCELLED") if tasks.move(connection, change, at) else None
    if task.cancel_requested_at is not None:
        return CancelAnswer(True, f"cancellation was already requested, by {task.cancel_requested_by}")
    if not tasks.mark_cancel_requested(connection, task_id, task.attempt, requested_by, at):
        return None
    remark = TaskLog(
        task_id=task_id,
        log_type=LogType.INFO,
        message=f"cancellation requested by {requested_by}",
        worker_id=task.worker_id,
        attempt=task.attempt,
        created_at=at,
    )
    logs.add(connection, remark)
    return CancelAnswer(True, "cancellation requested: the task is being stopped")


def _unknown_type(task_type: str, known: Sequence[str]) -> PreconditionError:
    alike = difflib.get_close_matches(task_type, known, n=_SUGGESTIONS, cutoff=0.5)
    hint = f"did you mean {' or '.join(alike)}?" if alike else "no known type looks like it"
    return PreconditionError(
        f"no worker has announced the task type {task_type!r}; {hint}",
        reason="UNKNOWN_TASK_TYPE",
        metadata={"task_type": task_type, "suggestions": ",".join(alike)},
    )
