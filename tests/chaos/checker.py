"""The checker: reads SQL and the handlers' own journal, and says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from history import problems_of
from sqlalchemy import select

from atm.models import Task, TaskLog
from atm.states import FINAL, Status
from atm.store.database import Database
from atm.store.logs import LOG
from atm.store.tasks import TASK

Entry = tuple[int, str, str, int]
#: The database's time is known to a process as exactly as the fastest answer took to come (on SQLite a
#: tick of the kernel more); the journal is in the machine's.
_SLACK_NS = 100_000_000


def check(
    database: Database, accepted: Mapping[str, str], cancelled: AbstractSet[str], journal: Sequence[Entry]
) -> list[str]:
    """Everything that is wrong, a line each; empty when all promises were kept."""
    tasks, logs = _read(database)
    problems = missing(accepted, tasks)
    for task_id, task in tasks.items():
        rows = logs.get(task_id, [])
        found = problems_of(task, rows) + not_final(task) + stale_result(task, rows)
        found += unexpected_end(task, task_id in cancelled)
        problems += [f"{task_id} ({task.task_type}): {problem}" for problem in found]
    return problems + late_starts(tasks, journal) + doubled_attempts(journal)


def missing(accepted: Iterable[str], tasks: Mapping[str, Task]) -> list[str]:
    """Accepted tasks that are not there."""
    return [f"{task_id}: it was accepted, and is not there" for task_id in accepted if task_id not in tasks]


def not_final(task: Task) -> list[str]:
    """A task that never ended."""
    return [] if task.status in FINAL else [f"it is still {task.status}"]


def stale_result(task: Task, rows: Sequence[TaskLog]) -> list[str]:
    """A result that was written by an attempt which did not hold the task."""
    if task.status != Status.SUCCESS:
        return []
    final = [row for row in rows if row.to_status == Status.SUCCESS]
    wrote = (task.result or {}).get("attempt", str(task.attempt))
    problems = []
    if final and final[-1].attempt != task.attempt:
        problems.append(f"attempt {final[-1].attempt} ended it, but it is at {task.attempt}")
    if wrote != str(task.attempt):
        problems.append(f"its result was written by attempt {wrote}, but it is at {task.attempt}")
    return problems


def unexpected_end(task: Task, cancelled: bool) -> list[str]:
    """A good handler's task that did not succeed, or a poisonous one that did."""
    if "hang" in task.task_type:
        wanted = {Status.TIMEOUT}
    elif "poison" in task.task_type:
        wanted = {Status.FAILED}
    elif cancelled:
        wanted = {Status.SUCCESS, Status.CANCELLED}
    else:
        wanted = {Status.SUCCESS}
    if task.status in FINAL and task.status not in wanted:
        return [f"it ended {task.status}: {task.error_message}"]
    return []


def late_starts(tasks: Mapping[str, Task], journal: Sequence[Entry]) -> list[str]:
    """Handlers that started after their task was over."""
    problems = []
    for at, what, task_id, attempt in journal:
        task = tasks.get(task_id)
        if what != "start" or task is None or task.completed_at is None:
            continue
        over = task.completed_at.timestamp() * 1e9
        if at > over + _SLACK_NS and attempt <= task.attempt:
            late = (at - over) / 1e6
            problems.append(f"{task_id}: attempt {attempt} started {late:.1f} ms after the task was over")
    return problems


def doubled_attempts(journal: Sequence[Entry]) -> list[str]:
    """One attempt that ran twice."""
    seen: set[tuple[str, int]] = set()
    problems = []
    for _, what, task_id, attempt in journal:
        if what != "start":
            continue
        if (task_id, attempt) in seen:
            problems.append(f"{task_id}: attempt {attempt} was started twice")
        seen.add((task_id, attempt))
    return problems


def doubled_requests(requests: Mapping[str, AbstractSet[str]]) -> list[str]:
    """Requests that made more than one task."""
    return [f"request {name} made {len(ids)} tasks" for name, ids in requests.items() if len(ids) > 1]


def unfinished(database: Database) -> int:
    """How many tasks have not ended."""
    query = select(TASK.c.task_id).where(TASK.c.status.in_([Status.PENDING, Status.PROCESSING]))
    return len(database.read(lambda connection: connection.execute(query).all()))


def _read(database: Database) -> tuple[dict[str, Task], dict[str, list[TaskLog]]]:
    """Everything, in two reads: a task at a time would take minutes."""
    tasks = database.read(lambda c: [Task(**row) for row in c.execute(select(TASK)).mappings()])
    rows = database.read(
        lambda c: [TaskLog(**row) for row in c.execute(select(LOG).order_by(LOG.c.log_id)).mappings()]
    )
    logs: dict[str, list[TaskLog]] = {}
    for row in rows:
        logs.setdefault(row.task_id, []).append(row)
    return {task.task_id: task for task in tasks}, logs
