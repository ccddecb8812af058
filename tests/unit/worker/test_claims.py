"""An attempt is claimed ahead or by its thread, once, and is begun with only while the claim is good."""

from __future__ import annotations

import dataclasses
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from fake_worker import AWAY, Clock, FakeWorker, attempt_of, claimed, fetched

from atm.errors import AtmError, ExhaustedError
from atm.service.attempts import Behind, Claim
from atm.worker import attempt as attempt_module
from atm.worker import claims as claims_module
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


def test_without_sql_it_is_left_to_whoever_fetches_it_next(
    worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    (attempt,) = _ahead(worker)
    worker.starts.commit(AWAY)
    assert worker.claims.begin(attempt) is None
    assert attempt.state is State.HANDED_BACK
    assert worker.broker.requeued == [attempt.fetched]
    assert not worker.broker.acknowledged
    assert not caplog.records, "the worker stops, or says that it is cut off"


def test_without_sql_a_thread_that_claims_itself_leaves_it(worker: FakeWorker) -> None:
    worker.starts.refusal = AWAY
    attempt = worker.attempt()
    assert worker.claims.begin(attempt) is None
    assert worker.broker.requeued == [attempt.fetched]


def test_without_sql_and_redis_the_relay_has_to_send_it_again(worker: FakeWorker) -> None:
    (attempt,) = _ahead(worker)
    worker.starts.commit(AWAY)
    worker.broker.is_away = True
    assert worker.claims.begin(attempt) is None
    assert worker.broker.acknowledged == [attempt.fetched]
    assert worker.attempts.add([attempt_of(fetched(*attempt.id))]), "it may come again"


def test_a_thread_waits_no_longer_for_a_claim_that_was_left_to_others(worker: FakeWorker) -> None:
    (attempt,) = _ahead(worker)
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(worker.claims.begin, attempt)
        worker.completer.hand_back([attempt], "cut off", unanswered=True)
        assert begun.result(60) is None
    assert attempt.state is State.HANDED_BACK


def test_what_the_database_has_not_got_yet_is_tried_again_after_all_that_wait(worker: FakeWorker) -> None:
    others = [fetched(), fetched()]
    worker.broker.waiting.extend(others)
    (attempt,) = _ahead(worker)
    worker.starts.commit(Behind.BEHIND)
    assert worker.claims.begin(attempt) is None
    assert list(worker.broker.waiting) == [*others, attempt.fetched]
    assert not worker.broker.acknowledged


def test_what_the_database_never_gets_is_dropped_in_the_end(worker: FakeWorker) -> None:
    message = fetched()
    old = dataclasses.replace(message.message, message_timestamp=round((time.time() - 11) * 1000))
    attempt = worker.attempt(message._replace(message=old))
    worker.claims.ask([attempt])
    worker.starts.commit(Behind.BEHIND)
    assert worker.claims.begin(attempt) is None
    assert worker.broker.acknowledged == [attempt.fetched]
    assert not worker.broker.requeued


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


@pytest.mark.parametrize(
    ("age", "is_ours", "is_begun"), [(3.0, False, True), (5.0, True, True), (5.0, False, False)]
)
def test_a_claim_that_is_old_is_begun_with_only_if_sql_says_that_it_is_still_ours(
    worker: FakeWorker, monkeypatch: pytest.MonkeyPatch, age: float, is_ours: bool, is_begun: bool
) -> None:
    clock = Clock.of(monkeypatch, claims_module, attempt_module)
    (attempt,) = _ahead(worker)
    task = claimed(*attempt.id)
    worker.starts.commit(task)
    worker.is_ours = is_ours
    clock.now += age
    assert worker.claims.begin(attempt) is (task if is_begun else None)
    assert attempt.state is (State.RUNNING if is_begun else State.DROPPED)
    assert not worker.ends.items, "others have ended it, or it runs"
