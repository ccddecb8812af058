"""The part of the task service that creates: checked, committed with others, then queued."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, TypeVar

import uuid_utils

from atm.batching.group_commit import GroupCommit
from atm.batching.reply import Promise
from atm.errors import PreconditionError, RequestReusedError, UnavailableError
from atm.lists import Hint, TaskList
from atm.models import Task, TaskConfig
from atm.service import validation
from atm.service.answers import inline_bytes
from atm.service.dispatch import Dispatcher
from atm.service.validation import NewTask
from atm.states import Status
from atm.store import tasks
from atm.store.clock import NOTEWORTHY
from atm.store.database import Connection, Database, DuplicateError
from atm.store.types import TypeCache

T = TypeVar("T")

#: How many known types an answer about an unknown one suggests.
_SUGGESTIONS = 3


class Creation:
    """What TaskService accepts tasks with."""

    def __init__(
        self,
        database: Database,
        dispatcher: Dispatcher,
        accept_unknown_types: bool,
        relay_grace: timedelta,
        deliver: Callable[[Callable[[], None]], Any],
    ) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._types = TypeCache(database)
        self._accept_unknown_types = accept_unknown_types
        self._relay_grace = relay_grace
        self._commits: GroupCommit[Task, Task] = GroupCommit(
            database.write,
            tasks.insert_tasks,
            name="atm-create",
            alone=self._of_same_request,
            committed=self._queue,
            deliver=deliver,
            size=lambda task: sum(map(len, chain.from_iterable(task.__dict__["payload"].items()))),
        )

    def create_at_once(self, new: NewTask, promise: Promise[Task]) -> bool:
        """Like `submit`; False, and nothing, when that would have to ask SQL for the type first."""
        validation.check_new_task(new)
        config = self._types.cached(new.task_type)
        if config is None:
            return False
        self._commits.submit(self._task_of(new, config, self._database.clock.now()), promise)
        return True

    def submit(self, new: NewTask, promise: Promise[Task]) -> None:
        """Accepts a task; the promise gets it when it and its first log row are committed.

        For a request id that was used before, it is the task that was made
        then. Raises ExhaustedError.
        """
        self._commits.submit(self.prepare(new), promise)

    def create(self, new: NewTask) -> Task:
        """The same for a thread that waits: the committed task."""
        return self._commits.call(self.prepare(new))

    def prepare(self, new: NewTask) -> Task:
        """The task that a request asks for, checked and not stored yet."""
        validation.check_new_task(new)
        return self._task_of(new, self._config_of(new.task_type), self._database.clock.now())

    def create_all(self, batch: Sequence[NewTask]) -> list[Task]:
        """Accepts all of these in one transaction, or none.

        For those whose request ids were used before, the tasks that they made.
        """
        validation.check_new_tasks(batch)
        at = self._database.clock.now()
        made = [self._task_of(new, self._config_of(new.task_type), at) for new in batch]
        ids = [task.request_id for task in made if task.request_id is not None]

        def work(connection: Connection) -> tuple[list[Task], list[Task]]:
            known = tasks.of_requests(connection, ids, inline_bytes(len(ids))) if ids else {}
            answer = [_same(task, known.get(task.request_id or "")) for task in made]
            fresh = [task for task in answer if task.request_id not in known]
            if fresh:
                tasks.insert_tasks(connection, fresh)
            return answer, fresh

        try:
            answer, fresh = self._database.write(work)
        except DuplicateError:
            # Another call with one of the request ids was just faster: now it can be seen.
            answer, fresh = self._database.write(work)
        self._queue(fresh)
        return answer

    # -- committed -----------------------------------------------------------

    def _queue(self, created: Sequence[Task | Exception]) -> None:
        # What has a delay is sent by the relay, when it is due.
        fresh = [task.__dict__ for task in created if isinstance(task, Task)]
        self._dispatcher.post(
            [
                Hint(values["task_id"], 1, TaskList(values["task_type"], values["priority"]))
                for values in fresh
                if values["due_at"] == values["created_at"]
            ]
        )

    def _of_same_request(self, task: Task, error: Exception) -> Task:
        """What to answer for a task that could not be inserted: the one that its request made before."""
        if not isinstance(error, DuplicateError) or task.request_id is None:
            raise error
        request_id = task.request_id
        first = self._database.read(lambda connection: tasks.of_requests(connection, [request_id]))
        if not first:
            # It was deleted in between.
            raise UnavailableError("the request's first task is just being deleted", retry_after=1.0)
        return _same(task, first[request_id])

    # -- prepared ------------------------------------------------------------

    def _config_of(self, task_type: str) -> TaskConfig:
        config = self._types.get(task_type)
        if config is not None:
            return config
        if self._accept_unknown_types:
            return TaskConfig(task_type=task_type, updated_at=self._database.clock.now())
        raise _unknown_type(task_type, self._types.names())

    def _task_of(self, new: NewTask, config: TaskConfig, at: datetime) -> Task:
        if not config.enabled:
            raise PreconditionError(
                f"the task type {new.task_type!r} is disabled",
                reason="TASK_TYPE_DISABLED",
                metadata={"task_type": new.task_type},
            )
        # Past SQLAlchemy's attributes: each CreateTask comes by here.
        policy = config.__dict__
        due_at = at + timedelta(milliseconds=new.delay_ms) if new.delay_ms else at
        values = {
            "task_id": _new_id(self._database.clock.ahead),
            "task_type": new.task_type,
            "status": Status.PENDING,
            "priority": new.priority,
            "payload": dict(new.payload),
            "max_retry": _chosen(new.max_retry, policy["max_retry"]),
            "timeout_ms": _chosen(new.timeout_ms, policy["default_timeout_ms"]),
            "retry_strategy": new.retry_strategy or policy["retry_strategy"],
            "retry_delay_ms": _chosen(new.retry_delay_ms, policy["retry_delay_ms"]),
            "retry_backoff_rate": _chosen(new.retry_backoff_rate, policy["retry_backoff_rate"]),
            "retry_max_delay_ms": _chosen(new.retry_max_delay_ms, policy["retry_max_delay_ms"]),
            "created_at": at,
            "due_at": due_at,
            # What waits is sent by the relay; what does not is sent now, and looked after by the relay.
            "dispatch_at": due_at if new.delay_ms else at + self._relay_grace,
            "request_id": new.request_id or None,
            "request_digest": new.digest() if new.request_id else "",
        }
        return Task.of_checked(values)


def _new_id(ahead: timedelta) -> str:
    """An id that comes after those made before, on any machine; `ahead`: this one's clock is by so much."""
    made = uuid_utils.uuid7()
    if abs(ahead) > NOTEWORTHY:
        # Version 7: the first 48 of 128 bits are milliseconds.
        made = uuid_utils.UUID(int=made.int - (round(ahead / timedelta(milliseconds=1)) << 80))
    return str(made)


def _same(task: Task, first: Task | None) -> Task:
    """What its request has made before, or the task itself. Raises RequestReusedError."""
    if first is None:
        return task
    if first.request_digest != task.request_digest:
        raise RequestReusedError(
            f"the request id {task.request_id!r} was used before, for another task: {first.task_id}",
            metadata={"task_id": first.task_id, "request_id": str(task.request_id)},
        )
    if first.unread:
        # The same was asked for, so the payload is known; a result may not be.
        first.__dict__["payload"] = task.payload
        if first.status == Status.SUCCESS and first.result is None:
            first.omit_unread()
    return first


def _chosen(asked: T | None, default: T) -> T:
    return default if asked is None else asked


def _unknown_type(task_type: str, known: Sequence[str]) -> PreconditionError:
    alike = difflib.get_close_matches(task_type, known, n=_SUGGESTIONS, cutoff=0.5)
    hint = f"did you mean {' or '.join(alike)}?" if alike else "no known type looks like it"
    return PreconditionError(
        f"no worker has announced the task type {task_type!r}; {hint}",
        reason="UNKNOWN_TASK_TYPE",
        metadata={"task_type": task_type, "suggestions": ",".join(alike)},
    )
