"""Reading tasks by their ids: those who ask at the same time share one query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from atm.batching.group_commit import GroupCommit, at_once
from atm.batching.reply import Promise
from atm.errors import TaskNotFoundError
from atm.models import Task
from atm.service import validation
from atm.store import tasks
from atm.store.database import Database


class Lookup:
    """Reads tasks. For `deliver` see GroupCommit."""

    def __init__(self, database: Database, *, deliver: Callable[[Callable[[], None]], Any] = at_once) -> None:
        self._reads: GroupCommit[str, Task] = GroupCommit(
            database.read, _read, name="atm-read", deliver=deliver
        )

    def start(self) -> None:
        """Starts the thread that reads."""
        self._reads.start()

    def close(self) -> None:
        """Ends it."""
        self._reads.close()

    def submit(self, task_id: str, answer: Promise[Task]) -> None:
        """The answer is the task as it is now, or a TaskNotFoundError. Raises ExhaustedError."""
        validation.check_task_id(task_id)
        self._reads.submit(task_id, answer)


def _read(connection: Connection, task_ids: Sequence[str]) -> list[Task | Exception]:
    found = tasks.get_all(connection, task_ids)
    return [found.get(task_id) or TaskNotFoundError(task_id) for task_id in task_ids]
