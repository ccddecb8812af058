"""Every attempt leaves by one way: its end is committed, and only then its message acknowledged."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from fake_worker import AWAY, FakeWorker, claimed, fetched

from atm.batching.reply import Reply
from atm.errors import AtmError, BrokerUnavailableError, ExhaustedError, UnavailableError
from atm.service.attempts import Behind, Claim, End
from atm.service.outcomes import Failed, HandedBack, Outcome, Succeeded, TimedOut
from atm.states import FINAL, Reason, Status
from atm.store.tasks import LostRaceError
from atm.worker import completer as module
from atm.worker.attempt import Attempt, State
from atm.worker.completer import unstorable

DONE = Succeeded({"a": "1"})


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker(waits=True)


# -- an end --------------------------------------------------------------------


def test_an_end_is_committed_with_what_was_said_last_and_then_acknowledged(worker: FakeWorker) -> None:
    attempt = worker.running()
    attempt.log.line("last words")
    attempt.raised = ValueError("it holds frames")
    assert worker.completer.complete(attempt, DONE)
    ((end, reply),) = worker.ends.submitted
    assert end[:3] == (*attempt.id, DONE)
    assert [line.message for line in end.report.lines] == ["last words"]
    assert attempt.state is State.ENDING
    assert attempt.id in worker.attempts.held(), "SQL says for a while that it runs here"
    assert not worker.attempts.load
    assert attempt.raised is None
    assert not worker.broker.acknowledged
    reply.set_result(Status.SUCCESS)
    assert attempt.state is State.STORED
    assert worker.broker.acknowledged == [attempt.fetched]
    assert not worker.attempts.held()


@pytest.mark.parametrize("status", [*Status, None])
def test_those_who_wait_for_a_task_are_notified_when_it_has_ended(
    worker: FakeWorker, status: Status | None
) -> None:
    attempt = worker.running()
    worker.completer.complete(attempt, Failed(Reason.HANDLER_ERROR, "no"))
    worker.ends.commit(status)
    assert worker.broker.acknowledged == [attempt.fetched]
    assert worker.broker.ended == ([attempt.id.task_id] if status in FINAL else [])
    assert attempt.state is State.STORED


def test_an_attempt_ends_once(worker: FakeWorker) -> None:
    attempt = worker.running()
    assert worker.completer.complete(attempt, DONE)
    assert not worker.completer.complete(attempt, DONE)
    worker.ends.commit(Status.SUCCESS)
    assert not worker.completer.complete(attempt, DONE)
    assert len(worker.ends.items) == len(worker.broker.acknowledged) == 1


def test_of_several_threads_that_end_it_one_does(worker: FakeWorker) -> None:
    running = [worker.running() for _ in range(50)]
    with ThreadPoolExecutor(8) as pool:
        for attempt in running:
            assert sum(pool.map(lambda _, a=attempt: worker.completer.complete(a, DONE), range(8))) == 1
    assert len(worker.ends.items) == len(running)


@pytest.mark.parametrize("refusal", [AWAY, ExhaustedError("too busy")])
def test_an_end_that_cannot_be_handed_over_is_left_to_the_reconciler(
    worker: FakeWorker, refusal: AtmError, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = worker.running()
    worker.ends.refusal = refusal
    assert worker.completer.complete(attempt, DONE)
    _is_unstored(worker, attempt, caplog)


def test_an_end_that_is_not_stored_is_left_to_the_reconciler(
    worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = worker.running()
    worker.completer.complete(attempt, DONE)
    worker.ends.commit(AWAY)
    _is_unstored(worker, attempt, caplog)


def _is_unstored(worker: FakeWorker, attempt: Attempt, caplog: pytest.LogCaptureFixture) -> None:
    assert attempt.state is State.UNSTORED
    assert worker.attempts.unstored() == [attempt]
    assert not worker.attempts.load
    assert not worker.broker.acknowledged, "its message is all that Redis knows"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_an_attempt_without_a_message_ends_like_any_other(worker: FakeWorker) -> None:
    attempt = worker.running()
    attempt.fetched = None
    worker.completer.complete(attempt, DONE)
    worker.ends.commit(Status.SUCCESS)
    assert attempt.state is State.STORED
    assert not worker.broker.acknowledged


def test_where_sql_is_far_behind_a_thread_waits_for_its_end(
    worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ENDING", -1)
    attempt = worker.running()
    submitted = Event()
    submit = worker.ends.submit

    def tell(item: End, reply: Reply[object]) -> None:
        submit(item, reply)
        submitted.set()

    monkeypatch.setattr(worker.ends, "submit", tell)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(worker.completer.complete, attempt, DONE)
        assert submitted.wait(60)
        assert not waits.done()
        worker.ends.commit(Status.SUCCESS)
        assert waits.result(60)


def test_a_success_says_nothing_and_any_other_end_is_a_line(
    worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "atm")
    worker.completer.complete(worker.running(), DONE)
    worker.ends.commit(Status.SUCCESS)
    assert not caplog.records
    worker.completer.complete(worker.running(), TimedOut("it was stopped"))
    worker.ends.commit(None)
    assert caplog.messages[0].endswith("TimedOut → refused")


# -- given up ------------------------------------------------------------------


def test_what_is_given_up_on_is_told_to_sql_at_once_and_its_late_end_still_sent(worker: FakeWorker) -> None:
    attempt = worker.running()
    attempt.log.line("so far")
    worker.completer.give_up(attempt, TimedOut("it did not react"))
    (given_up,) = worker.service.finished
    assert given_up[:3] == (*attempt.id, TimedOut("it did not react"))
    assert [line.message for line in given_up.report.lines] == ["so far"]
    assert attempt.given_up
    assert attempt.state is State.RUNNING
    assert worker.attempts.running() == [attempt], "its handler goes on, and is pressed"
    attempt.log.line("too late")
    assert worker.completer.complete(attempt, DONE)
    assert [line.message for line in worker.ends.items[0].report.lines] == ["too late"]
    worker.ends.commit(None)  # refused, and told in the history
    assert attempt.state is State.STORED
    assert worker.broker.acknowledged == [attempt.fetched]
    assert not worker.broker.ended


def test_what_cannot_be_given_up_on_loses_nothing_and_is_not_given_up_on(worker: FakeWorker) -> None:
    attempt = worker.running()
    attempt.log.line("first")
    worker.service.error = AWAY
    with pytest.raises(UnavailableError):
        worker.completer.give_up(attempt, TimedOut(""))
    assert not attempt.given_up
    attempt.log.line("second")
    assert [line.message for line in attempt.log.take().lines] == ["first", "second"]


# -- handed back ---------------------------------------------------------------


def _fetched(worker: FakeWorker, count: int = 1) -> list[Attempt]:
    return [worker.attempt() for _ in range(count)]


def _claimed(worker: FakeWorker, count: int = 1) -> list[Attempt]:
    made = _fetched(worker, count)
    worker.claims.ask(made)
    return made


def test_what_is_claimed_is_handed_back_in_sql(worker: FakeWorker) -> None:
    (attempt,) = _claimed(worker)
    worker.starts.commit(claimed(*attempt.id))
    worker.completer.hand_back([attempt], "its worker stopped")
    (end,) = worker.ends.items
    assert end[:3] == (*attempt.id, HandedBack("its worker stopped"))
    assert not end.report
    assert not worker.ledger.all()
    assert not worker.broker.acknowledged
    worker.ends.commit(Status.PENDING)
    assert attempt.state is State.HANDED_BACK
    assert worker.broker.acknowledged == [attempt.fetched]
    assert not worker.broker.ended
    assert not worker.broker.requeued


def test_what_was_cancelled_meanwhile_ends_by_being_handed_back(worker: FakeWorker) -> None:
    (attempt,) = _claimed(worker)
    worker.starts.commit(claimed(*attempt.id))
    worker.completer.hand_back([attempt], "")
    worker.ends.commit(Status.CANCELLED)
    assert worker.broker.ended == [attempt.id.task_id]


def test_what_is_fetched_is_handed_back_in_redis_in_its_order(worker: FakeWorker) -> None:
    attempts = _fetched(worker, 3)
    worker.completer.hand_back(attempts, "")
    assert worker.broker.requeued == [attempt.fetched for attempt in attempts]
    assert {attempt.state for attempt in attempts} == {State.HANDED_BACK}
    assert not worker.ends.items
    assert not worker.broker.acknowledged, "its message is in Redis again"


def test_a_claim_that_is_not_answered_stays(worker: FakeWorker) -> None:
    (attempt,) = _claimed(worker)
    worker.completer.hand_back([attempt], "")
    assert attempt.state is State.CLAIMED
    assert not worker.ends.items
    assert not worker.broker.requeued


@pytest.mark.parametrize("answer", [AWAY, Behind.BEHIND])
def test_what_sql_could_not_say_is_left_to_others_in_redis(worker: FakeWorker, answer: Any) -> None:
    (attempt,) = _claimed(worker)
    worker.starts.commit(answer)
    worker.completer.hand_back([attempt], "")
    assert attempt.state is State.HANDED_BACK
    assert worker.broker.requeued == [attempt.fetched]
    assert not worker.broker.acknowledged


def test_what_sql_does_not_answer_is_left_to_others_where_that_is_wanted(worker: FakeWorker) -> None:
    (attempt,) = _claimed(worker)
    worker.completer.hand_back([attempt], "", unanswered=True)
    assert attempt.state is State.HANDED_BACK
    assert worker.broker.requeued == [attempt.fetched]
    assert not worker.ledger.all()


@pytest.mark.parametrize("answer", [None, ZeroDivisionError()])
def test_a_claim_that_was_refused_is_dropped(worker: FakeWorker, answer: Exception | None) -> None:
    (attempt,) = _claimed(worker)
    worker.starts.commit(answer)
    worker.completer.hand_back([attempt], "")
    assert attempt.state is State.DROPPED
    assert worker.broker.acknowledged == [attempt.fetched]


def test_without_redis_what_is_fetched_stays_and_what_is_claimed_is_handed_back(worker: FakeWorker) -> None:
    (first,), (second,) = _claimed(worker), _fetched(worker)
    worker.starts.commit(claimed(*first.id))
    worker.broker.is_away = True
    with pytest.raises(BrokerUnavailableError):
        worker.completer.hand_back([first, second], "")
    assert (first.state, second.state) == (State.ENDING, State.FETCHED)
    worker.broker.is_away = False
    worker.completer.hand_back([second], "")
    assert second.state is State.HANDED_BACK


def test_what_a_thread_has_begun_with_is_not_handed_back(worker: FakeWorker) -> None:
    attempt = worker.running()
    worker.completer.hand_back([attempt], "")
    assert attempt.state is State.RUNNING
    assert not worker.ends.items
    assert not worker.broker.requeued


# -- a thread that is free -----------------------------------------------------


def test_what_left_its_thread_without_an_end_gets_one(worker: FakeWorker) -> None:
    attempt = worker.running()
    worker.completer.thread_left(attempt)
    (end,) = worker.ends.items
    assert isinstance(end.outcome, Failed)
    assert (end.outcome.reason, end.outcome.retryable) == (Reason.INTERNAL_ERROR, True)


def test_what_left_its_thread_unbegun_goes_to_other_workers(worker: FakeWorker) -> None:
    (attempt,) = _claimed(worker)
    worker.starts.commit(claimed(*attempt.id))
    worker.completer.thread_left(attempt)
    assert isinstance(worker.ends.items[0].outcome, HandedBack)


def test_a_thread_that_leaves_waits_for_the_claim_that_is_on_its_way(worker: FakeWorker) -> None:
    (attempt,) = _claimed(worker)
    asked = Event()

    def leave() -> None:
        asked.set()
        worker.completer.thread_left(attempt)

    with ThreadPoolExecutor(1) as pool:
        left = pool.submit(leave)
        assert asked.wait(60)
        worker.starts.commit(claimed(*attempt.id))
        left.result(60)
    assert attempt.state is State.ENDING


def test_what_is_fetched_and_leaves_its_thread_is_dropped(worker: FakeWorker) -> None:
    (attempt,) = _fetched(worker)
    worker.completer.thread_left(attempt)
    assert attempt.state is State.DROPPED
    assert worker.broker.acknowledged == [attempt.fetched]


def test_what_was_begun_and_is_not_known_is_dropped(worker: FakeWorker) -> None:
    (attempt,) = _fetched(worker)
    worker.attempts.step(attempt, State.RUNNING)
    worker.completer.thread_left(attempt)
    assert attempt.state is State.DROPPED
    assert not worker.ends.items


def test_what_ends_elsewhere_is_left_alone(worker: FakeWorker) -> None:
    attempt = worker.running()
    attempt.ends_elsewhere = True
    worker.completer.thread_left(attempt)
    assert attempt.state is State.RUNNING
    assert not worker.ends.items


@pytest.mark.parametrize("status", [None, Status.SUCCESS])
def test_what_has_ended_is_left_alone(worker: FakeWorker, status: Status | None) -> None:
    attempt = worker.running()
    worker.completer.complete(attempt, DONE)
    if status:
        worker.ends.commit(status)
    worker.completer.thread_left(attempt)
    assert len(worker.ends.items) == 1


# -- what the database cannot keep ----------------------------------------------


def test_instead_of_an_end_that_cannot_be_stored_one_that_says_so_is() -> None:
    instead = unstorable(End("t", 2, DONE), ValueError("too large"))
    assert (instead.task_id, instead.attempt) == ("t", 2)
    outcome: Outcome = instead.outcome
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.retryable) == (Reason.INVALID_RESULT, False)
    assert not instead.report, "it may be what cannot be stored"


@pytest.mark.parametrize(
    ("change", "error"), [(Claim("t", 1), ValueError()), (End("t", 1, DONE), LostRaceError())]
)
def test_a_claim_and_a_lost_race_have_no_other_answer(change: Claim | End, error: Exception) -> None:
    with pytest.raises(type(error)):
        unstorable(change, error)


def test_a_message_of_a_cancelled_task_is_acknowledged_without_its_end(worker: FakeWorker) -> None:
    attempt = worker.attempt(fetched(cancelled=True))
    worker.completer.thread_left(attempt)
    assert worker.broker.acknowledged == [attempt.fetched]
    assert not worker.broker.ended
