"""Tasks in the states, and of the ages, that a test is about."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import update

from atm.models import Task, now
from atm.service.attempts import AttemptService
from atm.service.outcomes import Outcome, Succeeded
from atm.service.task_service import TaskService
from atm.service.validation import NewTask
from atm.store import tasks
from atm.store.database import Database


class Tasks:
    """Makes them in one database."""

    def __init__(self, database: Database, creation: TaskService) -> None:
        self._database = database
        self._creation = creation

    def waiting(self, **wanted: Any) -> str:
        """A task that waits."""
        defaults: dict[str, Any] = {"task_type": "example_task", "max_retry": 1, "retry_delay_ms": 0}
        return self._creation.create(NewTask(**(defaults | wanted))).task_id

    def running(self, worker_id: str = "w", **wanted: Any) -> str:
        """A task that a worker has claimed."""
        task_id = self.waiting(**wanted)
        assert AttemptService(self._database, worker_id).claim(task_id, 1)
        return task_id

    def ended(self, outcome: Outcome | None = None, **wanted: Any) -> str:
        """A task that a worker has claimed and ended."""
        task_id = self.running(**wanted)
        assert AttemptService(self._database, "w").finish(task_id, 1, outcome or Succeeded({}))
        return task_id

    def set_ago(self, task_id: str, **seconds: float) -> None:
        """Moves moments of a task to so many seconds ago."""
        at = now()
        values = {name: at - timedelta(seconds=value) for name, value in seconds.items()}
        change = update(tasks.TASK).where(tasks.TASK.c.task_id == task_id).values(**values)
        self._database.write(lambda connection: connection.execute(change))

    def get(self, task_id: str) -> Task:
        """A task as it is."""
        task = self._database.read(lambda connection: tasks.get(connection, task_id))
        assert task is not None
        return task

    def statuses(self, *task_ids: str) -> list[str]:
        """The states of these."""
        return [self.get(task_id).status for task_id in task_ids]
