"""The lists in which tasks wait: one for each type and priority; and what asks for an attempt of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: Of tasks, most urgent first: High and Normal.
PRIORITIES = (1, 0)


class TaskList(NamedTuple):
    """The tasks of one type and priority that wait."""

    task_type: str
    priority: int


def list_for(task_type: str, priority: int) -> TaskList:
    """The list in which a task with this priority waits, whatever number it is."""
    return TaskList(task_type, int(priority > 0))


class Hint(NamedTuple):
    """This attempt of a task of this list is next. SQL decides whether it is."""

    task_id: str
    attempt: int
    of: TaskList


def lists_of(task_types: Iterable[str]) -> list[TaskList]:
    """The lists of these types."""
    return [TaskList(name, priority) for priority in PRIORITIES for name in task_types]
