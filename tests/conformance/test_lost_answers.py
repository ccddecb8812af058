"""What Redis gave out in an answer that did not arrive is given out again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from fix_valkey import Valkey

from atm.broker import connection, keys
from atm.broker.broker import Acknowledgement, TaskBroker
from atm.errors import BrokerUnavailableError
from atm.lists import Hint, TaskList

OF = TaskList("work", 0)
IDS = [f"{number:03d}" for number in range(10)]


@pytest.fixture
def broker(own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskBroker]:
    """One that waits only for a moment, and ten messages."""
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.3)
    made = TaskBroker(own_valkey.url, prefix="p")
    made.send([Hint(task_id, 1, OF) for task_id in IDS])
    yield made
    made.close()


def _fetched(broker: TaskBroker, wanted: int) -> list[str]:
    return [item.message.args[0] for item in broker.fetch([OF], wanted, 0)[1]]


def _frozen_while_it_is_asked(broker: TaskBroker, valkey: Valkey, wanted: int) -> None:
    """It gets the question, and nobody gets its answer."""
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        with pytest.raises(BrokerUnavailableError):
            _fetched(broker, wanted)
    finally:
        os.kill(valkey.pid, signal.SIGCONT)


@pytest.mark.parametrize("before", [0, 4])
def test_a_redis_that_was_frozen_loses_no_message(
    broker: TaskBroker, own_valkey: Valkey, before: int
) -> None:
    first = _fetched(broker, before) if before else []
    for _ in range(3):
        _frozen_while_it_is_asked(broker, own_valkey, 3)
    found = _fetched(broker, 10)
    assert first + found == IDS
    assert _fetched(broker, 10) == []
    broker.acknowledge([Acknowledgement(keys.message_id(task_id, 1)) for task_id in IDS])
    assert not broker.client.exists(keys.messages("p"), keys.fetched("p"))


def test_what_others_have_got_meanwhile_is_not_given_out_again(
    broker: TaskBroker, own_valkey: Valkey
) -> None:
    _frozen_while_it_is_asked(broker, own_valkey, 3)
    other = TaskBroker(own_valkey.url, prefix="p", consumer_timeout=-1)
    other.recover()
    assert _fetched(other, 4) == IDS[:4]
    assert _fetched(broker, 10) == IDS[4:]
    other.close()


def test_a_sign_of_life_takes_nothing_of_an_answer_that_was_lost(
    broker: TaskBroker, own_valkey: Valkey
) -> None:
    _frozen_while_it_is_asked(broker, own_valkey, 3)
    assert _fetched(broker, 0) == []
    assert _fetched(broker, 3) == IDS[:3]
