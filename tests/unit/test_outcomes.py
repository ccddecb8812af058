"""What becomes of a task when an attempt ends: whatever the task and the end, the promises hold."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from atm.models import Task
from atm.service.outcomes import (
    Cancelled,
    Failed,
    HandedBack,
    Outcome,
    Succeeded,
    TimedOut,
    WorkerLost,
    decide,
)
from atm.states import TRANSITIONS, LogType, Reason, Status

AT = datetime(2026, 1, 1, tzinfo=UTC)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    max_retry = draw(st.integers(0, 5))
    cancelled = draw(st.booleans())
    return Task(
        task_id="t",
        task_type="x",
        status=Status.PROCESSING,
        priority=0,
        payload={},
        attempt=draw(st.integers(1, 20)),
        retry_count=draw(st.integers(0, max_retry)),
        max_retry=max_retry,
        timeout_ms=draw(st.integers(0, 10**9)),
        retry_strategy=draw(st.sampled_from(["FIXED", "EXPONENTIAL"])),
        retry_delay_ms=draw(st.integers(0, 10**9)),
        retry_backoff_rate=draw(st.floats(1, 100)),
        retry_max_delay_ms=draw(st.integers(0, 10**9)),
        created_at=AT,
        due_at=AT,
        cancel_requested_at=AT if cancelled else None,
        cancel_requested_by="someone" if cancelled else "",
    )


outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Succeeded, st.dictionaries(st.text(), st.text(), max_size=2)),
    st.builds(Failed, st.sampled_from(Reason), st.text(), st.text(), st.booleans()),
    st.builds(TimedOut, st.text()),
    st.builds(Cancelled, st.text()),
    st.builds(HandedBack, st.text()),
    st.builds(WorkerLost, st.text()),
)


@given(tasks(), outcomes)
def test_every_end_is_a_legal_move_of_this_attempt(task: Task, outcome: Outcome) -> None:
    move = decide(task, outcome, AT, "w")
    assert move.to_status in TRANSITIONS[Status.PROCESSING]
    assert (move.task_id, move.from_status, move.attempt) == (task.task_id, Status.PROCESSING, task.attempt)


@given(tasks(), outcomes)
def test_a_retry_is_counted_once_and_never_beyond_what_is_allowed(task: Task, outcome: Outcome) -> None:
    move = decide(task, outcome, AT, "w")
    retries = (move.values or {}).get("retry_count", task.retry_count)
    charged = move.to_status is Status.PENDING and not isinstance(outcome, HandedBack)
    assert retries == task.retry_count + charged
    assert retries <= task.max_retry


@given(tasks(), outcomes)
def test_a_task_that_shall_end_is_never_tried_again(task: Task, outcome: Outcome) -> None:
    if task.cancel_requested_at is not None:
        assert decide(task, outcome, AT, "w").to_status is not Status.PENDING


@given(tasks(), outcomes)
def test_what_waits_is_due_within_the_cap_and_nobody_holds_it(task: Task, outcome: Outcome) -> None:
    move = decide(task, outcome, AT, "w")
    if move.to_status is Status.PENDING:
        values = dict(move.values or {})
        waits = (values["due_at"] - AT).total_seconds() * 1000
        assert 0 <= waits <= task.retry_max_delay_ms
        assert values["dispatch_at"] == values["due_at"]
        assert values["worker_id"] == ""


@given(tasks())
def test_a_failure_that_forbids_a_retry_is_final_and_explained(task: Task) -> None:
    outcome = Failed(Reason.HANDLER_ERROR, "no such customer", "Traceback …", retryable=False)
    decision = decide(task, outcome, AT, "w")
    assert decision.to_status is Status.FAILED
    assert [row.log_type for row in decision.after] == [LogType.ERROR]
    assert decision.after[0].message == "Traceback …"


@given(tasks())
def test_a_lost_worker_costs_a_retry_and_then_the_task(task: Task) -> None:
    move = decide(task, WorkerLost("gone"), AT, "w")
    if task.retry_count == task.max_retry:
        assert (move.to_status, (move.values or {})["error_reason"]) == (Status.FAILED, Reason.WORKER_LOST)
    else:
        assert move.to_status in (Status.PENDING, Status.CANCELLED)
        assert move.log_type is LogType.STATE_CHANGE
