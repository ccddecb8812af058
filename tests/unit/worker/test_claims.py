"""An attempt is claimed ahead or by its thread, once, and is begun with only while the claim is good."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

import pytest
from fake_worker import AWAY, FakeWorker, claimed, fetched

from atm.errors import AtmError, ExhaustedError
from atm.models import now
from atm.service.attempts import Claim
from atm.service.outcomes import HandedBack
from atm.worker.attempt import Attempt, State


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker(waits=True)


def _ahead(worker: FakeWorker, count: int = 1) -> list[Attempt]:
    """Attempts whose claims are on their way."""
    made = [worker.attempt() for _ in range(count)]
    worker.claims.ask(made)
    assert {attempt.state for attempt in made} == {State.CLAIMED}
    return made


def test_what_was_fetched_together_is_claimed_together_but_for_what_was_cancelled(worker: FakeWorker) -> None:
    first, cancelled, last = (worker.attempt(fetched(cancelled=is_up)) for is_up in (False, True, False))
    worker.claims.ask([first, cancelled, last])
    assert worker.starts.items == [Claim(*first.id), Claim(*last.id)]
    assert [attempt.state for attempt in (first, cancelled, last)] == [
        State.CLAIMED,
        State.FETCHED,
        State.CLAIMED,
    ]
    assert worker.ledger.all() == {first.id, last.id}


def test_what_a_thread_has_begun_with_is_not_claimed_again(worker: FakeWorker) -> None:
    attempt = worker.attempt()
    assert worker.attempts.step(attempt, State.RUNNING)
    worker.claims.ask([attempt])
    assert not worker.starts.items


@pytest.mark.parametrize("refusal", [AWAY, ExhaustedError("too busy")])
def test_a_claim_that_is_turned_away_is_made_by_its_thread(worker: FakeWorker, refusal: AtmError) -> None:
    attempt = worker.attempt()
    worker.starts.refusal = refusal
    worker.claims.ask([attempt])
    assert attempt.state is State.FETCHED
    assert not worker.ledger.all()
    worker.starts.refusal = None
    worker.starts.answer = lambda claim: claimed(*claim)
    task = worker.claims.begin(attempt)
    assert task is not None
    assert (task.task_id, task.attempt) == attempt.id
    assert attempt.state is State.RUNNING


def test_a_thread_waits_for_the_claim_that_was_made_ahead(worker: FakeWorker) -> None:
    (attempt,) = _ahead(worker)
    asked = Event()

    def begin() -> object:
        asked.set()
        return worker.claims.begin(attempt)

    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(begin)
        assert asked.wait(60)
        task = claimed(*attempt.id)
        worker.starts.commit(task)
        assert begun.result(60) is task
    assert len(worker.starts.items) == 1
    assert not worker.ledger.all(), "it is begun with, and charged if it is lost now"


def test_out_of_date_is_dropped_and_its_message_acknowledged(worker: FakeWorker) -> None:
    (attempt,) = _ahead(worker)
    worker.starts.commit(None)
    assert worker.claims.begin(attempt) is None
    assert attempt.state is State.DROPPED
    assert worker.broker.acknowledged == [attempt.fetched]
    assert not worker.broker.ended


def test_what_was_handed_back_meanwhile_is_not_begun_with(worker: FakeWorker) -> None:
    (attempt,) = _ahead(worker)
    worker.starts.commit(claimed(*attempt.id))
    worker.completer.hand_back([attempt], "the threads were busy")
    assert worker.claims.begin(attempt) is None
    worker.ends.commit()
    assert worker.claims.begin(attempt) is None
    assert len(worker.ends.items) == 1
    assert worker.broker.acknowledged == [attempt.fetched]


def test_without_sql_it_is_dropped_and_its_message_comes_again(
    worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    (attempt,) = _ahead(worker)
    worker.starts.commit(AWAY)
    assert worker.claims.begin(attempt) is None
    assert attempt.state is State.DROPPED
    assert not caplog.records, "the worker stops: nobody need know"


def test_without_sql_a_thread_that_claims_itself_drops_it(worker: FakeWorker) -> None:
    worker.starts.refusal = AWAY
    attempt = worker.attempt()
    assert worker.claims.begin(attempt) is None
    assert attempt.state is State.DROPPED


def test_an_error_that_nobody_foresaw_is_logged_and_the_message_acknowledged(
    worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    (attempt,) = _ahead(worker)
    worker.starts.commit(ZeroDivisionError("a defect"))
    assert worker.claims.begin(attempt) is None
    assert worker.broker.acknowledged == [attempt.fetched]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert attempt.id.task_id in caplog.text
    assert not worker.attempts.held()
    assert not worker.ledger.all()


@pytest.mark.parametrize(("age", "is_begun"), [(3.0, True), (5.0, False)])
def test_a_claim_that_is_too_old_is_handed_back(worker: FakeWorker, age: float, is_begun: bool) -> None:
    (attempt,) = _ahead(worker)
    task = claimed(*attempt.id, started_at=now() - timedelta(seconds=age))
    worker.starts.commit(task)
    assert worker.claims.begin(attempt) is (task if is_begun else None)
    if is_begun:
        assert attempt.state is State.RUNNING
        return
    ((task_id, number, outcome, _),) = worker.ends.items
    assert (task_id, number) == attempt.id
    assert isinstance(outcome, HandedBack)
    worker.ends.commit()
    assert attempt.state is State.HANDED_BACK
