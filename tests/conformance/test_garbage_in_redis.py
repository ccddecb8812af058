"""Whatever others write into Redis ends no thread, and delays nothing that stands beside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from fix_valkey import Valkey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atm.broker import keys
from atm.broker.broker import TaskBroker
from atm.broker.cancel_flags import CancelFlags
from atm.broker.message import decoded, encoded, list_of
from atm.broker.notifications import NotificationListener
from atm.lists import Hint, TaskList, lists_of

TASK = "00000000-0000-7000-8000-000000000000"
OF = TaskList("work", 0)
LISTS = lists_of(["work"])


@pytest.fixture
def broker(valkey: Valkey, prefix: str) -> Iterator[TaskBroker]:
    made = TaskBroker(valkey.url, prefix=prefix)
    yield made
    made.close()


def _message(**other: Any) -> bytes:
    name = f"{TASK}:1"
    fields = {
        "queue_name": "normal",
        "actor_name": "run_normal",
        "args": [TASK, 1],
        "kwargs": {},
        "options": {"redis_message_id": name, "task_type": "work"},
        "message_id": name,
        "message_timestamp": 1,
    }
    return json.dumps(fields | other).encode()


_OPTIONS = {"redis_message_id": f"{TASK}:1", "task_type": "work"}
GARBAGE: dict[str, tuple[bytes, bytes]] = {
    "not JSON": (b"x", b"\xff\xfe not JSON"),
    "a list": (b"x", b"[1, 2]"),
    "no fields": (b"x", b"{}"),
    "deep": (b"x", b"[" * 200_000 + b"]" * 200_000),
    "no options": (f"{TASK}:1".encode(), _message(options={})),
    "no arguments": (f"{TASK}:1".encode(), _message(args=[])),
    "other arguments": (f"{TASK}:1".encode(), _message(args=[{"a": 1}, [2]])),
    "an attempt that is text": (f"{TASK}:1".encode(), _message(args=[TASK, "1"])),
    "an attempt that is huge": (f"{TASK}:1".encode(), _message(args=[TASK, 10**30])),
    "another attempt than its id": (f"{TASK}:2".encode(), _message()),
    "another actor": (f"{TASK}:1".encode(), _message(actor_name="os.system")),
    "another queue": (f"{TASK}:1".encode(), _message(queue_name="evil")),
    "keywords": (f"{TASK}:1".encode(), _message(kwargs={"x": 1})),
    "more options": (f"{TASK}:1".encode(), _message(options=_OPTIONS | {"eta": 1})),
    "no type": (f"{TASK}:1".encode(), _message(options={"redis_message_id": f"{TASK}:1"})),
    "a type that is none": (f"{TASK}:1".encode(), _message(options=_OPTIONS | {"task_type": 7})),
    "a type that is no text": (f"{TASK}:1".encode(), _message(options=_OPTIONS | {"task_type": "\ud800"})),
    "a moment that is none": (f"{TASK}:1".encode(), _message(message_timestamp="now")),
    "a moment that never comes": (f"{TASK}:1".encode(), _message(message_timestamp=10**18)),
    "an id that is no text": (b"\xff\xfe:1", _message()),
    "an id without attempt": (b"nothing", _message()),
}


#: Whatever a type may be called.
TYPES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def _push(broker: TaskBroker, redis_id: bytes, data: bytes) -> None:
    broker.client.hset(keys.messages(broker.namespace), redis_id, data)  # type: ignore[arg-type]
    broker.client.rpush(keys.waiting(broker.namespace, OF), redis_id)


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_asks_for_no_attempt_is_dropped_and_what_stands_beside_it_is_fetched(
    broker: TaskBroker, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker.send([Hint("before", 1, OF)])
    _push(broker, *GARBAGE[kind])
    broker.send([Hint("after", 1, OF)])
    _, found = broker.fetch(LISTS, 10, 0)
    # The ids of garbage say nothing of its time.
    assert {item.message.args for item in found} == {("before", 1), ("after", 1)}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    # Nor does it stay, or come again.
    assert broker.client.hlen(keys.messages(broker.namespace)) == 2
    assert broker.client.hlen(keys.fetched(broker.namespace)) == 2


def test_an_id_without_a_message_is_passed_over(broker: TaskBroker) -> None:
    broker.client.rpush(keys.waiting(broker.namespace, OF), "nothing:1")
    broker.send([Hint("after", 1, OF)])
    assert [item.message.args for item in broker.fetch(LISTS, 10, 0)[1]] == [("after", 1)]


LISTS_OF_ALL_KINDS = st.builds(TaskList, TYPES, st.sampled_from([0, 1]))


@given(
    st.uuids(),
    st.integers(1, 10**9),
    LISTS_OF_ALL_KINDS,
    st.integers(0, 10**13),
)
def test_what_is_sent_is_what_is_read(task: UUID, attempt: int, of: TaskList, at: int) -> None:
    redis_id = keys.message_id(str(task), attempt)
    message = decoded(redis_id.encode(), encoded(str(task), attempt, of, str(at)).encode())
    assert message is not None
    assert list_of(message) == of
    assert (message.args, message.message_timestamp) == ((str(task), attempt), at)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=50), st.binary(max_size=300) | st.from_regex(rb"\{.*\}", fullmatch=True))
def test_no_bytes_raise(redis_id: bytes, data: bytes) -> None:
    assert decoded(redis_id, data) is None


HEARD = [b"\xff\xfe", b"\xff\xfe \x00", b"", b" ", b"a" * 1_000_000, "\ud800".encode(errors="surrogatepass")]


@pytest.mark.parametrize("data", HEARD, ids=lambda data: repr(data[:8]))
def test_listeners_survive_what_they_hear(broker: TaskBroker, data: bytes) -> None:
    heard: list[list[str]] = []
    listener = NotificationListener(broker.client, broker.namespace, heard.append)
    flags = CancelFlags(broker.client, broker.namespace).subscription()
    for _ in range(3):
        listener.run_once()
        flags.next(0.05)
    broker.client.publish(keys.ended_channel(broker.namespace), data)
    broker.client.publish(keys.cancel_channel(broker.namespace), data)
    broker.client.publish(keys.ended_channel(broker.namespace), "good one")
    broker.client.publish(keys.cancel_channel(broker.namespace), "good")
    told = [flags.next(5.0), flags.next(5.0)]
    assert told[1] == "good"
    while ["good", "one"] not in heard:
        listener.run_once()
    listener.close()
    flags.close()
