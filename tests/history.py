"""The checker of histories: what must hold for every task, whatever happened to it."""

from __future__ import annotations

from atm.models import Task, TaskLog
from atm.states import FINAL, TRANSITIONS, LogType, Status
from atm.store import logs
from atm.store.database import Database
from atm.store.tasks import Filter, get, page


def check_history(database: Database) -> int:
    """Checks all tasks; how many there are. Fails with every problem that it finds.

    Servers and workers may go on meanwhile.
    """
    tasks = database.read(lambda connection: page(connection, Filter(), limit=1_000_000))
    problems: list[str] = []
    for listed in tasks:
        task, rows = _at_one_moment(database, listed)
        problems += [f"{task.task_id} ({task.task_type}): {problem}" for problem in problems_of(task, rows)]
    assert not problems, "\n".join(problems)
    return len(tasks)


def _at_one_moment(database: Database, task: Task) -> tuple[Task, list[TaskLog]]:
    """A task and its log, read again until the task did not change while its log was read.

    One transaction would not do: on MariaDB each of its statements sees what
    is committed when that statement begins.
    """
    while True:
        rows = database.read(lambda connection, task=task: logs.of_task(connection, task.task_id))  # type: ignore[misc]
        again = database.read(lambda connection, task=task: get(connection, task.task_id))  # type: ignore[misc]
        # None: it was deleted, with its history.
        if again is None or _version(again) == _version(task):
            return task, list(rows)
        task = again


def _version(task: Task) -> tuple[object, ...]:
    """Differs after every change of the state."""
    return task.status, task.attempt, task.retry_count, task.due_at, task.completed_at


def problems_of(task: Task, rows: list[TaskLog]) -> list[str]:
    """What is wrong with one task and its log."""
    problems: list[str] = []
    changes = [row for row in rows if row.to_status]
    if not changes or (changes[0].from_status, changes[0].to_status) != ("", Status.PENDING):
        return ["its first change is not from nothing to PENDING"]
    if rows[0] is not changes[0] or changes[0].log_type != LogType.STATE_CHANGE:
        problems.append("its first row is not the STATE_CHANGE that created it")
    state, attempt, retries = Status.PENDING, 0, 0
    for row in changes[1:]:
        to_status = Status(row.to_status)
        if row.from_status != state:
            problems.append(f"row {row.log_id} leaves {row.from_status}, but the state was {state}")
        if to_status not in TRANSITIONS[state]:
            problems.append(f"row {row.log_id}: {state} never becomes {to_status}")
        if to_status is Status.PROCESSING:
            attempt += 1
        if row.attempt != attempt:
            problems.append(f"row {row.log_id} is of attempt {row.attempt}, not {attempt}")
        if to_status is Status.PENDING and "handed back" not in row.message:
            retries += 1
        if row.log_type == LogType.RETRY and to_status is not Status.PENDING:
            problems.append(f"row {row.log_id} is a RETRY to {to_status}")
        if row.log_type not in (LogType.RETRY, LogType.STATE_CHANGE):
            problems.append(f"row {row.log_id} changes the state as {row.log_type}")
        state = to_status
    if state != task.status:
        problems.append(f"its rows end in {state}, but it is {task.status}")
    if attempt != task.attempt:
        problems.append(f"its rows tell of {attempt} attempts, but it counts {task.attempt}")
    if retries != task.retry_count:
        problems.append(f"its rows tell of {retries} retries, but it counts {task.retry_count}")
    if task.retry_count > task.max_retry:
        problems.append(f"it was tried again {task.retry_count} times, {task.max_retry} were allowed")
    finals = [row for row in changes if row.to_status in FINAL]
    if len(finals) != (1 if task.status in FINAL else 0):
        problems.append(f"it has {len(finals)} final rows")
    if (task.completed_at is not None) != (task.status in FINAL):
        problems.append(f"it is {task.status} and completed_at is {task.completed_at}")
    return problems
