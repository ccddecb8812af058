"""What a consumer had fetched is for others once it is silent, and not before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dramatiq.common import current_millis
from fake_dispatcher import FakeDispatcher
from fix_valkey import Valkey

from atm.broker import keys
from atm.broker.broker import TaskBroker
from atm.scheduler.recovery import MessageRecovery
from atm.service.dispatch import Dispatcher

QUEUES = keys.QUEUES_BY_URGENCY
TASKS = [("a", 1, 0), ("b", 1, 1)]


@pytest.fixture
def consumer(valkey: Valkey, prefix: str) -> Iterator[TaskBroker]:
    """Another process."""
    made = TaskBroker(valkey.url, prefix=prefix)
    yield made
    made.close()


def _fetch(broker: TaskBroker) -> set[str]:
    """The tasks whose messages it gets."""
    return {message.message.args[0] for message in broker.fetch(QUEUES, 10, 0)[1]}


def _was_heard(broker: TaskBroker, seconds_ago: float) -> None:
    at = current_millis() - round(seconds_ago * 1000)
    broker.client.zadd(keys.heartbeats(broker.namespace), {broker.broker_id: at})


def test_what_a_silent_consumer_had_fetched_is_for_others(broker: TaskBroker, consumer: TaskBroker) -> None:
    recovery = MessageRecovery(Dispatcher(broker))
    broker.send(TASKS)
    assert _fetch(consumer) == {"a", "b"}
    assert not recovery.run_once()
    assert _fetch(broker) == set()
    _was_heard(consumer, 3600)
    assert not recovery.run_once()
    assert _fetch(broker) == {"a", "b"}


def test_a_redis_that_is_away_is_asked_again_next_time() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.works = False
    recovery = MessageRecovery(dispatcher)
    assert [recovery.run_once() for _ in range(2)] == [False, False]
    assert dispatcher.recoveries == 2
