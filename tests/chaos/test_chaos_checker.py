"""The checker finds what it is there to find: histories that are wrong on purpose, one for each rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from history import problems_of

from atm.models import Task, TaskLog
from atm.states import Status
from chaos import checker

AT = datetime(2026, 1, 1, tzinfo=UTC)


def _task(status: Status = Status.SUCCESS, attempt: int = 1, **values: object) -> Task:
    policy = {"max_retry": 3, "timeout_ms": 0, "retry_strategy": "FIXED", "retry_delay_ms": 0}
    policy |= {"retry_backoff_rate": 1.0, "retry_max_delay_ms": 0}
    fields = {"task_id": "t1", "task_type": "chaos_quick", "status": status, "priority": 0, "payload": {}}
    fields |= {"created_at": AT, "due_at": AT, "completed_at": AT, "attempt": attempt}
    fields |= {"result": {"attempt": str(attempt)}, **policy}
    return Task(**(fields | values))


def _rows(*changes: tuple[str, str, int]) -> list[TaskLog]:
    return [
        TaskLog(
            log_id=n,
            task_id="t1",
            log_type="STATE_CHANGE",
            from_status=a,
            to_status=b,
            attempt=k,
            created_at=AT,
        )
        for n, (a, b, k) in enumerate(changes, start=1)
    ]


GOOD = _rows(("", "PENDING", 0), ("PENDING", "PROCESSING", 1), ("PROCESSING", "SUCCESS", 1))


def test_a_right_history_is_right() -> None:
    task = _task()
    assert problems_of(task, GOOD) == []
    assert (
        checker.not_final(task) + checker.stale_result(task, GOOD) + checker.unexpected_end(task, False) == []
    )


@pytest.mark.parametrize(
    ("task", "rows", "complaint"),
    [
        (_task(), GOOD[1:], "not from nothing"),
        (_task(), [GOOD[0], GOOD[2]], "the state was PENDING"),
        (_task(), [*GOOD, *_rows(("PROCESSING", "SUCCESS", 1))], "2 final rows"),
        (_task(attempt=2), GOOD, "1 attempts, but it counts 2"),
        (_task(Status.FAILED), GOOD, "its rows end in SUCCESS"),
        (_task(retry_count=1), GOOD, "0 retries, but it counts 1"),
        (_task(completed_at=None), GOOD, "completed_at is None"),
    ],
)
def test_a_wrong_path_is_found(task: Task, rows: list[TaskLog], complaint: str) -> None:
    assert any(complaint in problem for problem in problems_of(task, rows)), problems_of(task, rows)


def test_a_lost_task_is_found() -> None:
    assert checker.missing({"gone": "chaos_quick"}, {}) == ["gone: it was accepted, and is not there"]


def test_a_task_that_never_ends_is_found() -> None:
    assert checker.not_final(_task(Status.PROCESSING, completed_at=None)) == ["it is still PROCESSING"]


def test_a_result_of_an_attempt_that_was_given_up_is_found() -> None:
    assert checker.stale_result(_task(attempt=2, result={"attempt": "1"}), GOOD)


def test_a_good_task_that_fails_is_found_and_a_cancelled_one_is_not() -> None:
    assert checker.unexpected_end(_task(Status.FAILED), cancelled=False)
    assert checker.unexpected_end(_task(Status.CANCELLED), cancelled=False)
    assert not checker.unexpected_end(_task(Status.CANCELLED), cancelled=True)


def test_a_handler_that_starts_after_its_task_was_over_is_found() -> None:
    late = int((AT + timedelta(seconds=1)).timestamp() * 1e9)
    assert checker.late_starts({"t1": _task()}, [(late, "start", "t1", 1)])
    assert not checker.late_starts({"t1": _task()}, [(late - 2_000_000_000, "start", "t1", 1)])


def test_an_attempt_that_ran_twice_is_found() -> None:
    assert checker.doubled_attempts([(1, "start", "t1", 1), (2, "start", "t1", 1)])
    assert not checker.doubled_attempts([(1, "start", "t1", 1), (2, "end", "t1", 1), (3, "start", "t1", 2)])


def test_a_request_that_made_two_tasks_is_found() -> None:
    assert checker.doubled_requests({"r": {"a", "b"}})
    assert not checker.doubled_requests({"r": {"a"}})
