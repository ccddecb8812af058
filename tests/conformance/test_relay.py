"""The relay: what should have its message by now gets it, once, and is looked after until it starts."""

from __future__ import annotations

import pytest
from fake_dispatcher import FakeDispatcher
from fix_valkey import Valkey
from make_tasks import Tasks

from atm.broker import keys
from atm.broker.broker import Acknowledgement, TaskBroker
from atm.lists import Hint, TaskList
from atm.models import now
from atm.scheduler import relay as module
from atm.scheduler.relay import Relay
from atm.service.attempts import AttemptService
from atm.service.dispatch import Dispatcher
from atm.service.outcomes import Failed
from atm.states import Reason, Status
from atm.store.database import Database

TYPE = "example_task"
LIMIT = 100


@pytest.fixture
def dispatcher() -> FakeDispatcher:
    return FakeDispatcher()


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """For types that have come."""
    monkeypatch.setattr(module, "_LISTED_SECONDS", 0.0)
    monkeypatch.setattr(module, "_LISTED_SHARE", 0)


@pytest.fixture
def relay(database: Database, dispatcher: FakeDispatcher) -> Relay:
    return Relay(database, dispatcher, 0.1, LIMIT)


def test_what_is_due_is_sent_and_what_is_not_is_left(
    made: Tasks, relay: Relay, dispatcher: FakeDispatcher
) -> None:
    due = made.waiting(priority=1)
    made.set_ago(due, dispatch_at=1)
    # Its creation has only just sent its message.
    made.waiting()
    made.waiting(delay_ms=3_600_000)
    made.running()
    made.ended()
    assert not relay.run_once()
    assert dispatcher.sent == [[Hint(due, 1, TaskList(TYPE, 1))]]
    assert not relay.run_once()
    assert len(dispatcher.sent) == 1


def test_a_delay_that_is_over_is_due(made: Tasks, relay: Relay, dispatcher: FakeDispatcher) -> None:
    task = made.waiting(delay_ms=3_600_000)
    # By more than this machine's clock may be ahead of the database's.
    made.set_ago(task, due_at=1, dispatch_at=1)
    relay.run_once()
    assert dispatcher.sent == [[Hint(task, 1, TaskList(TYPE, 0))]]


def test_a_retry_asks_for_the_next_attempt(made: Tasks, relay: Relay, dispatcher: FakeDispatcher) -> None:
    task = made.ended(Failed(Reason.HANDLER_ERROR, "boom"))
    assert made.get(task).status == Status.PENDING
    relay.run_once()
    assert dispatcher.sent == [[Hint(task, 2, TaskList(TYPE, 0))]]


def test_a_failed_send_leaves_it_due(made: Tasks, relay: Relay, dispatcher: FakeDispatcher) -> None:
    task = made.waiting()
    made.set_ago(task, dispatch_at=1)
    dispatcher.works = False
    before = made.get(task)
    # Not at once: Redis is away.
    assert not relay.run_once()
    assert made.get(task) == before
    dispatcher.works = True
    relay.run_once()
    assert dispatcher.sent == [[Hint(task, 1, TaskList(TYPE, 0))]]
    assert made.get(task).dispatch_at > now()  # type: ignore[operator]


def test_more_than_a_batch_is_sent_in_turns_from_the_one_that_is_due_longest(
    made: Tasks, relay: Relay, dispatcher: FakeDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    ids = [made.waiting() for _ in range(5)]
    for age, task_id in enumerate(ids, 1):
        made.set_ago(task_id, dispatch_at=age)
    assert [relay.run_once() for _ in range(3)] == [True, True, False]
    assert [task.task_id for batch in dispatcher.sent for task in batch] == ids[::-1]


def test_what_starts_while_its_message_is_sent_is_not_looked_after_any_more(
    made: Tasks, relay: Relay, dispatcher: FakeDispatcher, database: Database
) -> None:
    task = made.waiting()
    made.set_ago(task, dispatch_at=1)
    dispatcher.meanwhile = lambda: AttemptService(database, "w").claim(task, 1)
    relay.run_once()
    assert (made.get(task).status, made.get(task).dispatch_at) == (Status.PROCESSING, None)


def test_a_list_that_was_full_gets_more_when_a_quarter_of_it_is_free_and_then_all_again(
    made: Tasks, relay: Relay, dispatcher: FakeDispatcher
) -> None:
    full = TaskList(TYPE, 0)
    waits, high = made.waiting(), made.waiting(priority=1)
    for task in (waits, high):
        made.set_ago(task, dispatch_at=1)
    for dispatcher.rooms[full] in (0, LIMIT // 4 - 1):
        relay.run_once()
    # What is full does not hold up other lists.
    assert dispatcher.sent == [[Hint(high, 1, TaskList(TYPE, 1))]]
    dispatcher.rooms[full] = LIMIT // 4
    relay.run_once()
    assert dispatcher.sent[1:] == [[Hint(waits, 1, full)]]
    assert full in dispatcher.rooms, "there may be more"
    relay.run_once()
    assert not dispatcher.rooms


def test_what_there_is_no_room_for_stays_due(made: Tasks, database: Database, valkey: Valkey) -> None:
    broker = TaskBroker(valkey.url, prefix=f"full{made.waiting()}", limit=10)
    relay = Relay(database, Dispatcher(broker), 0.1, 10)
    ids = [made.waiting() for _ in range(30)]
    for age, task_id in enumerate(ids, 100):
        made.set_ago(task_id, dispatch_at=age)
    of, order = TaskList(TYPE, 0), []
    for _ in range(3):
        while relay.run_once():
            pass
        # A new one does not go before them.
        assert broker.send([Hint("late", 1, of)]) == [0]
        _, found = broker.fetch([of], 100, 0)
        assert len(found) == 10
        broker.acknowledge([Acknowledgement(item.redis_id) for item in found])
        order += [item.message.args[0] for item in found]
        # They have started.
        for item in found:
            AttemptService(database, "w").claim(*item.message.args)
    assert order == ids[::-1]
    relay.run_once()
    assert broker.send([Hint("late", 1, of)]) == []
    broker.close()


def test_what_else_is_among_the_lists_that_were_full_harms_nothing(valkey: Valkey, prefix: str) -> None:
    broker = TaskBroker(valkey.url, prefix=prefix, limit=1)
    of = TaskList(TYPE, 0)
    broker.client.sadd(keys.full(prefix), b"\xff", keys.messages(prefix), "no such list")
    assert broker.send([Hint("a", 1, of), Hint("b", 1, of)]) == [1]
    assert broker.room([of]) == {of: 0}
    broker.close()
