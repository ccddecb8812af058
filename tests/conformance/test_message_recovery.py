"""What a consumer had fetched is for others once it is silent, and not before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dramatiq.common import current_millis
from fake_dispatcher import FakeDispatcher
from fix_valkey import Valkey

from atm.broker import keys
from atm.broker.broker import Acknowledgement, TaskBroker
from atm.lists import Hint, TaskList, lists_of
from atm.scheduler.recovery import MessageRecovery
from atm.service.dispatch import Dispatcher

LISTS = lists_of(["one", "other"])
HINTS = [Hint("a", 1, TaskList("one", 0)), Hint("b", 1, TaskList("other", 1))]


@pytest.fixture
def consumer(valkey: Valkey, prefix: str) -> Iterator[TaskBroker]:
    """Another process."""
    made = TaskBroker(valkey.url, prefix=prefix)
    yield made
    made.close()


def _fetch(broker: TaskBroker) -> set[str]:
    """The tasks whose messages it gets."""
    return {message.message.args[0] for message in broker.fetch(LISTS, 10, 0)[1]}


def _was_heard(broker: TaskBroker, seconds_ago: float) -> None:
    at = current_millis() - round(seconds_ago * 1000)
    broker.client.zadd(keys.consumers(broker.namespace), {broker.broker_id: at})


def test_what_a_silent_consumer_had_fetched_is_for_others(broker: TaskBroker, consumer: TaskBroker) -> None:
    recovery = MessageRecovery(Dispatcher(broker))
    broker.send(HINTS)
    assert _fetch(consumer) == {"a", "b"}
    assert not recovery.run_once()
    assert _fetch(broker) == set()
    _was_heard(consumer, 3600)
    assert not recovery.run_once()
    assert _fetch(broker) == {"a", "b"}


def test_what_is_put_back_comes_before_what_waits_in_its_order(
    broker: TaskBroker, consumer: TaskBroker
) -> None:
    of = TaskList("one", 0)
    broker.send([Hint(f"{number:03d}", 1, of) for number in range(50)])
    assert len(consumer.fetch(LISTS, 30, 0)[1]) == 30
    _was_heard(consumer, 3600)
    broker.recover()
    found = [item.message.args[0] for item in broker.fetch(LISTS, 100, 0)[1]]
    assert found == [f"{number:03d}" for number in range(50)]


def test_a_silent_consumer_that_speaks_again_is_not_forgotten(
    broker: TaskBroker, consumer: TaskBroker
) -> None:
    broker.send(HINTS)
    assert _fetch(consumer) == {"a", "b"}
    _was_heard(consumer, 3600)
    consumer.fetch(LISTS, 0, 0)
    broker.recover()
    assert _fetch(broker) == set()
    # What it says it is done with is gone for good.
    consumer.acknowledge([Acknowledgement("a:1"), Acknowledgement("b:1")])
    assert not broker.client.exists(keys.messages(broker.namespace), keys.fetched(broker.namespace))


def test_what_others_have_got_meanwhile_is_not_acknowledged(broker: TaskBroker, consumer: TaskBroker) -> None:
    broker.send(HINTS)
    assert _fetch(consumer) == {"a", "b"}
    _was_heard(consumer, 3600)
    broker.recover()
    assert _fetch(broker) == {"a", "b"}
    consumer.acknowledge([Acknowledgement("a:1"), Acknowledgement("b:1")])
    assert broker.client.hlen(keys.messages(broker.namespace)) == 2


def test_a_redis_that_is_away_is_asked_again_next_time() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.works = False
    recovery = MessageRecovery(dispatcher)
    assert [recovery.run_once() for _ in range(2)] == [False, False]
    assert dispatcher.recoveries == 2
