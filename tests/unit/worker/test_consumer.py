"""Dramatiq's threads are given attempts, whatever becomes of Redis, and are free at once."""

from __future__ import annotations

import pytest
from fake_worker import FakeWorker, fetched, messages

from atm.service.outcomes import Failed
from atm.states import Reason
from atm.worker.attempt import State
from atm.worker.consumer import AttemptConsumer, AttemptMessage


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker(messages(3))


def test_a_message_is_given_out_with_its_attempt_in_the_place_of_the_hint(worker: FakeWorker) -> None:
    message = next(worker.consumer)
    assert isinstance(message, AttemptMessage)
    assert message.args == (message.attempt,)
    assert message.attempt.fetched is not None
    assert message.message_id == message.attempt.fetched.redis_id


def test_one_consumer_takes_for_all_queues_and_the_others_wait(
    worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(worker.prefetcher, "wait_for_stop", waits.append)
    for queue in ("high", "normal.DQ", "high.DQ"):
        assert next(AttemptConsumer(queue, worker.prefetcher, worker.completer)) is None
    assert len(waits) == 3
    assert min(waits) > 0
    assert worker.sources._queues == ["normal", "high"]


def test_when_there_is_nothing_it_gives_out_nothing() -> None:
    assert next(FakeWorker().consumer) is None


@pytest.mark.parametrize("how", ["ack", "nack"])
def test_a_thread_is_free_at_once_and_its_attempt_gets_an_end(worker: FakeWorker, how: str) -> None:
    message = next(worker.consumer)
    assert isinstance(message, AttemptMessage)
    assert worker.attempts.out_count == 1
    task = worker.claims.begin(message.attempt)
    assert task is not None
    message.attempt.prepare(task)
    getattr(worker.consumer, how)(message)
    assert not worker.attempts.out_count
    outcome = worker.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.INTERNAL_ERROR


def test_what_dramatiq_has_not_started_is_handed_back_with_the_rest(worker: FakeWorker) -> None:
    worker = FakeWorker([fetched(), fetched()], claims_ahead=False)
    message = next(worker.consumer)
    assert isinstance(message, AttemptMessage)
    worker.prefetcher.stop()
    worker.consumer.requeue([message])
    worker.consumer.close()
    assert not worker.broker.requeued
    worker.prefetcher.hand_back_all()
    assert len(worker.broker.requeued) == 2
    assert message.attempt.state is State.HANDED_BACK
