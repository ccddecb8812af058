"""The task service: what clients can ask for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from atm.batching.group_commit import GroupCommit, at_once
from atm.batching.reply import Promise
from atm.errors import TaskNotFoundError
from atm.models import Leader, Server, Task, Worker
from atm.service import validation
from atm.service._counts import Counts
from atm.service._creation import Creation
from atm.service.answers import INLINE_BYTES, READ_FACTOR, Reserve, unbounded
from atm.service.dispatch import Dispatcher
from atm.service.history import MAX_LOG_PAGE, LogListing, LogPage, read_history
from atm.service.listing import Page, filter_of, read_page
from atm.service.validation import Listing
from atm.states import FINAL, KNOWN, LogType, Reason, Status, WorkerStatus
from atm.store import logs, servers, tasks, workers
from atm.store.database import Connection, Database
from atm.store.logs import NewRow
from atm.store.tasks import Move

R = TypeVar("R")


@dataclass(frozen=True)
class Cancellation:
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


class TaskService(Creation):
    """The use cases of clients: the only thing that a front door needs.

    Methods raise the ServiceErrors of atm.errors, and may block on SQL: call
    them from a thread, but for `create_at_once` and `get`, which never block.
    `relay_grace` is how many seconds a fresh task's message may take before
    the relay looks after it, `worker_lease` how many seconds without a
    heartbeat make a worker LOST. For `deliver` see GroupCommit.
    """

    def __init__(
        self,
        database: Database,
        dispatcher: Dispatcher,
        *,
        accept_unknown_types: bool = False,
        relay_grace: float = 3.0,
        worker_lease: float = 8.0,
        deliver: Callable[[Callable[[], None]], Any] = at_once,
    ) -> None:
        super().__init__(database, dispatcher, accept_unknown_types, timedelta(seconds=relay_grace), deliver)
        # Those who ask for tasks at the same time share one query.
        self._reads: GroupCommit[str, Task] = GroupCommit(
            database.read, _read, name="atm-read", deliver=deliver
        )
        self._counts = Counts()
        self._worker_lease = timedelta(seconds=worker_lease)

    def start(self) -> None:
        """Starts the threads that create and read."""
        self._commits.start()
        self._reads.start()

    def close(self) -> None:
        """Commits what was submitted, and ends the threads."""
        self._reads.close()
        self._commits.close()

    # -- tasks --------------------------------------------------------------

    def get(self, task_id: str, promise: Promise[Task]) -> None:
        """The promise gets the task as it is now, or a TaskNotFoundError. Raises ExhaustedError.

        A payload or result that is large is not read: the task's `unread` says
        so, and `whole` reads it.
        """
        validation.check_task_id(task_id)
        self._reads.submit(task_id, promise)

    def whole(self, task: Task, reserve: Reserve) -> Task:
        """The task as it is now, with what `get` did not read. Raises TaskNotFoundError, ExhaustedError."""
        reserve(READ_FACTOR * task.unread)
        return self._database.read(lambda connection: _existing(connection, task.task_id, None))

    def logs(self, listing: LogListing, reserve: Reserve = unbounded) -> LogPage:
        """The history of a task, oldest first, or a page of it. Raises ExhaustedError of `reserve`."""
        validation.check_task_id(listing.task_id)
        validation.check_log_page(listing.page_size, MAX_LOG_PAGE)
        return self._database.read(lambda connection: read_history(connection, listing, reserve))

    def page(self, listing: Listing, reserve: Reserve = unbounded) -> Page:
        """One page of the tasks that match, newest first. Raises ExhaustedError of `reserve`."""
        validation.check_listing(listing)
        found, more = self._database.read(lambda connection: read_page(connection, listing, reserve))
        wanted = filter_of(listing)
        counts = not listing.page_token
        total = self._counted(wanted, lambda connection: tasks.count(connection, wanted)) if counts else 0
        return Page(found, total, more)

    def _counted(self, key: Hashable, count: Callable[[Connection], R]) -> R:
        counted: R = self._counts.get(key, lambda: self._database.read(count))
        return counted

    def cancel(self, task_id: str, requested_by: str) -> Cancellation:
        """Ends a task that waits, asks a running one to end, and leaves an ended one as it is."""
        validation.check_task_id(task_id)
        validation.check_actor(requested_by)
        answer = None
        while answer is None:  # None: a worker was faster; look again
            answer = self._database.write(
                lambda connection: _cancel(connection, task_id, requested_by, self._database.clock.now())
            )
        if answer.success:
            self._dispatcher.flag_cancelled(task_id, requested_by)
        return answer

    # -- operations ----------------------------------------------------------

    def workers(self) -> list[Worker]:
        """Every worker that has not left; one whose heartbeats stopped is LOST."""
        heard_since = self._database.clock.now() - self._worker_lease
        found = self._database.read(workers.all_workers)
        _mark_lost(found, heard_since)
        return list(found)

    def servers(self) -> tuple[list[Server], Leader]:
        """Every server that has not left, LOST where its heartbeats stopped; and who leads."""
        heard_since = self._database.clock.now() - self._worker_lease
        found, leader = self._database.read(
            lambda connection: (servers.all_servers(connection), servers.leader(connection))
        )
        _mark_lost(found, heard_since)
        return list(found), leader

    def statistics(self) -> Statistics:
        """Counts of tasks and of the workers that live."""
        by_status = self._counted("status", lambda connection: tasks.count_by(connection, "status"))
        by_type = self._counted("type", lambda connection: tasks.count_by(connection, "task_type"))
        living = [worker for worker in self.workers() if worker.status != WorkerStatus.LOST]
        return Statistics(
            by_status={status: by_status.get(status, 0) for status in Status},
            by_type=by_type,
            workers=len(living),
            capacity=sum(worker.capacity for worker in living),
            load=sum(worker.load for worker in living),
        )


def _mark_lost(found: Sequence[Worker | Server], heard_since: datetime) -> None:
    for process in found:
        if process.last_heartbeat_at < heard_since:
            process.status = WorkerStatus.LOST


def _read(connection: Connection, items: Sequence[str]) -> list[Task | Exception]:
    found = tasks.get_all(connection, items, INLINE_BYTES)
    return [found.get(task_id) or TaskNotFoundError(task_id) for task_id in items]


def _existing(connection: Connection, task_id: str, most: int | None = 0) -> Task:
    task = tasks.get(connection, task_id, most)
    if task is None:
        raise TaskNotFoundError(task_id)
    return task


def _cancel(connection: Connection, task_id: str, requested_by: str, at: datetime) -> Cancellation | None:
    """The answer, or None when the task moved on between reading and writing."""
    task = _existing(connection, task_id)
    if task.status not in KNOWN:
        return Cancellation(False, f"the task is in no state that ATM knows: it is {task.status!r}")
    status = Status(task.status)
    if status in FINAL:
        return Cancellation(False, f"the task had already ended: it is {status}")
    asked = {"cancel_requested_at": at, "cancel_requested_by": requested_by}
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
                **asked,
                "error_reason": Reason.CANCELLED,
                "error_message": f"cancelled by {requested_by}",
                "dispatch_at": None,
            },
        )
        return Cancellation(True, "the task is CANCELLED") if tasks.move(connection, change, at) else None
    if task.cancel_requested_at is not None:
        return Cancellation(True, f"cancellation was already requested, by {task.cancel_requested_by}")
    if not tasks.touch(connection, task_id, task.attempt, asked):
        return None
    said = f"cancellation requested by {requested_by}"
    remark = NewRow(task_id, LogType.INFO, said, at, worker_id=task.worker_id, attempt=task.attempt)
    logs.add(connection, [remark])
    return Cancellation(True, "cancellation requested: the task is being stopped")
