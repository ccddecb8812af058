"""A task's history is bounded, whatever its handlers log, however often it is tried; what is cut is said."""

from __future__ import annotations

from itertools import chain, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make_tasks import Tasks
from sqlalchemy import event, update

from atm.models import TaskLog, now
from atm.service.attempts import AttemptService, End, Line, Report
from atm.service.history_bound import (
    BRIEF_MESSAGE,
    DETAILED_RETRIES,
    MAX_BYTES,
    MAX_CHARACTERS,
    MAX_ROWS,
    HistoryBound,
)
from atm.service.outcomes import Failed, HandedBack, Outcome, Succeeded
from atm.states import LogType, Reason, Status
from atm.store import logs, tasks
from atm.store.database import Database
from atm.worker.log_buffer import LogBuffer

FAILED = Failed(Reason.HANDLER_ERROR, "ValueError: no", "Traceback: no")
ROWS, BYTES = 200, 20_000


def _rows(database: Database, task_id: str) -> list[TaskLog]:
    return list(database.read(lambda connection: logs.of_task(connection, task_id)))


def _report(*messages: str) -> Report:
    return Report([Line(message, now()) for message in messages])


def _at_attempt(database: Database, task_id: str, attempt: int) -> None:
    """As if the task had been tried that often before; what came of it is not in its history."""
    change = update(tasks.TASK).where(tasks.TASK.c.task_id == task_id).values(attempt=attempt)
    database.write(lambda connection: connection.execute(change))


messages = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=400), max_size=40)


@settings(
    max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(st.lists(st.tuples(st.lists(messages, max_size=3), messages), min_size=5, max_size=15))
def test_a_history_has_at_most_so_many_rows_and_bytes(
    database: Database, made: Tasks, attempts: list[tuple[list[list[str]], list[str]]]
) -> None:
    workers = [AttemptService(database, f"w{n}", HistoryBound(ROWS, BYTES)) for n in range(2)]
    task_id = made.waiting(max_retry=1000)
    logged = []
    for number, (reports, last) in enumerate(attempts, start=1):
        worker = workers[number % 2]
        assert worker.claim(task_id, number)
        for report in reports:
            assert worker.report(task_id, number, _report(*report))
        outcome: Outcome = FAILED if number < len(attempts) else Succeeded({})
        assert worker.finish(task_id, number, outcome, _report(*last))
        logged += [(number, message) for message in [*chain(*reports), *last]]
        made.set_ago(task_id, due_at=1)
    rows = _rows(database, task_id)
    assert len(rows) <= ROWS
    assert sum(len(row.message.encode()) for row in rows) <= BYTES
    kept = [(row.attempt, row.message) for row in rows if row.log_type == LogType.INFO]
    lines = [line for line in kept if "is full" not in line[1]]
    # In order, and none that was not logged; each attempt of which some are missing says so, once.
    rest = iter(logged)
    assert all(line in rest for line in lines)
    for number in range(1, len(attempts) + 1):
        cut = [message for attempt, message in kept if attempt == number and "is full" in message]
        missing = [line for line in logged if line[0] == number] != [
            line for line in lines if line[0] == number
        ]
        assert len(cut) == missing, (number, cut)
    # Every change of state is there.
    changes = [row for row in rows if row.to_status]
    assert len(changes) == 1 + 2 * len(attempts)
    assert all(before.to_status == after.from_status for before, after in pairwise(changes))
    assert changes[-1].to_status == Status.SUCCESS


def test_the_bound_holds_for_as_much_as_handlers_can_log_in_as_many_attempts_as_there_may_be(
    database: Database, made: Tasks
) -> None:
    """At full size, four bytes a character: the last attempts before the bound, and those after it."""
    log = LogBuffer()
    while log.line("🧨" * 15_999):
        pass
    report = log.take()
    worker = AttemptService(database, "w")
    task_id = made.waiting(max_retry=1000)
    fit = HistoryBound().fit_in_any_case
    for number in range(1, fit + 3):
        assert worker.claim(task_id, number)
        worker.finish(task_id, number, FAILED, report)
        made.set_ago(task_id, due_at=1)
    size = database.read(lambda connection: logs.size(connection, task_id))
    assert 0.8 * MAX_BYTES < size.bytes < MAX_BYTES
    rows = _rows(database, task_id)
    assert size == (len(rows), sum(len(row.message.encode()) for row in rows))
    assert [row.attempt for row in rows if "is full" in row.message][-1] == fit + 2
    # Whatever is to come: what is left is enough for a thousand retries.
    most = 4 * (
        DETAILED_RETRIES * (logs.MAX_MESSAGE + 200) + (1000 - DETAILED_RETRIES) * (BRIEF_MESSAGE + 200)
    )
    assert most < MAX_BYTES // 8
    assert MAX_ROWS // 20 > 4 * 1000
    assert fit * (4 * MAX_CHARACTERS + 1000) <= MAX_BYTES - MAX_BYTES // 8


def test_several_that_end_together_are_each_bounded_by_their_own_history(
    database: Database, made: Tasks
) -> None:
    worker = AttemptService(database, "w", HistoryBound(ROWS, BYTES))
    full, roomy = made.running(), made.running()
    worker.report(full, 1, _report(*["x" * 1000] * 30))
    said = _report("one", "two")
    assert worker.finish_all([End(task, 1, Succeeded({}), said) for task in (full, roomy)]) == ["SUCCESS"] * 2
    assert [row.message for row in _rows(database, roomy)][2:4] == ["one", "two"]
    last = [row.message for row in _rows(database, full)][-2:]
    # It was said when the first lines were cut.
    assert "is full" in last[0]
    assert last[1] == "attempt 1 succeeded"


@pytest.mark.parametrize(("attempt", "counts"), [(1, 0), (HistoryBound().fit_in_any_case, 0), (500, 1)])
def test_nobody_counts_but_once_for_an_attempt_of_a_task_that_was_tried_often(
    database: Database, made: Tasks, attempt: int, counts: int
) -> None:
    worker = AttemptService(database, "w")
    task_id = made.waiting()
    _at_attempt(database, task_id, attempt - 1)
    counted = []

    def note(*executed: object) -> None:
        if "count(" in str(executed[2]).lower():
            counted.append(executed[2])

    event.listen(database.engine, "before_cursor_execute", note)
    assert worker.claim(task_id, attempt)
    for _ in range(3):
        assert worker.report(task_id, attempt, _report("a line"))
    assert len(counted) == counts
    worker.finish(task_id, attempt, Succeeded({}), _report("the last"))
    assert len(counted) == counts
    # Its history is not a legal one: the attempts before were not made.
    change = tasks.TASK.delete().where(tasks.TASK.c.task_id == task_id)
    database.write(lambda connection: connection.execute(change))


def test_an_attempt_that_logs_nothing_is_never_counted(database: Database, made: Tasks) -> None:
    worker = AttemptService(database, "w", HistoryBound(1, 1))
    task_id = made.running()
    assert worker.finish(task_id, 1, HandedBack("it stops")) == Status.PENDING
    assert [row.to_status for row in _rows(database, task_id)] == ["PENDING", "PROCESSING", "PENDING"]


def test_a_task_that_is_tried_very_often_says_less_of_each_failure(database: Database, made: Tasks) -> None:
    worker = AttemptService(database, "w")
    long = Failed(Reason.HANDLER_ERROR, "ValueError: why", "traceback " * 1000)
    lengths = []
    task_id = made.waiting(max_retry=1000)
    for number in range(1, DETAILED_RETRIES + 3):
        assert worker.claim(task_id, number)
        assert worker.finish(task_id, number, long) == Status.PENDING
        made.set_ago(task_id, due_at=1)
        row = _rows(database, task_id)[-1]
        assert "ValueError: why" in row.message
        lengths.append(len(row.message))
    assert min(lengths[:DETAILED_RETRIES]) > 10_000
    assert max(lengths[DETAILED_RETRIES:]) < BRIEF_MESSAGE + 100
    assert "more characters)" in _rows(database, task_id)[-1].message
