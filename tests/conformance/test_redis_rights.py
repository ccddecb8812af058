"""What a user of Redis must be allowed to, and that a right which is missing stops nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from fix_valkey import Valkey

from atm.broker import keys
from atm.broker.broker import Acknowledgement, TaskBroker
from atm.broker.cancel_flags import CancelFlags
from atm.broker.lease import Hold, Lease
from atm.broker.marker import Marker
from atm.broker.notifications import NotificationListener
from atm.errors import BrokerUnavailableError

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
QUEUES = ["high", "normal"]
TASKS = [("a", 1, 0), ("b", 1, 1)]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Valkey]:
    made = Valkey(tmp_path)
    made.start()
    yield made
    made.stop()


def _rights() -> list[str]:
    """Those that the page on operations tells to give."""
    (line,) = re.findall(r"^ACL SETUSER atm on >\S+ (.*)$", DOCS.read_text(), re.MULTILINE)
    return line.replace("atm:", "p:").split()


def _broker(own: Valkey, *rights: str) -> TaskBroker:
    with redis.Redis.from_url(own.url) as client:
        client.execute_command("ACL", "SETUSER", "user", "reset", "on", ">secret", *rights)
    return TaskBroker(own.url.replace("redis://", "redis://user:secret@"), prefix="p")


def _ack(task_id: str, queue: str) -> Acknowledgement:
    return Acknowledgement(queue, keys.message_id(task_id, 1), task_id)


def test_with_the_rights_that_are_documented_everything_works(
    own: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    broker = _broker(own, *_rights())
    listener = NotificationListener(broker.client, "p", lambda _: None)
    flags = CancelFlags(broker.client, "p")
    heard = flags.subscription()
    lease, marker = Lease(broker.client, "p", "me", 2000), Marker(broker.client, "p")
    for _ in range(2):
        listener.run_once()
        heard.next(0.1)
    assert broker.ping()
    broker.probe()
    assert broker.send(TASKS) == 2
    broker.wait(QUEUES, 1)
    _, found = broker.fetch(QUEUES, 5, 0)
    assert len(found) == 2
    broker.requeue(found)
    broker.requeue(broker.fetch(QUEUES, 5, 0)[1], last=True)
    broker.fetch(QUEUES, 5, 0)
    broker.acknowledge([_ack("a", "normal"), _ack("b", "high")])
    broker.heartbeat_timeout = -1000
    broker.recover()
    broker.wake()
    flags.set("c", "ann")
    assert flags.of(["c"]) == {"c": "ann"}
    assert heard.next(5.0) == "c"
    assert lease.hold() is Hold.TAKEN
    lease.release()
    assert [marker.lost(), marker.lost()] == ["is empty", ""]
    for part in (listener, heard, broker):
        part.close()
    assert not caplog.records


def test_without_the_right_to_publish_messages_are_acknowledged_and_flags_raised(
    own: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    broker = _broker(own, "~p:*", "resetchannels", "+@all")
    broker.send(TASKS)
    assert len(broker.fetch(QUEUES, 5, 0)[1]) == 2
    for _ in range(3):
        broker.acknowledge([_ack("a", "normal"), _ack("b", "high")])
    with redis.Redis.from_url(own.url) as client:
        assert not client.exists(*(keys.messages("p", queue) for queue in QUEUES))
    flags = CancelFlags(broker.client, "p")
    flags.set("c", "ann")
    assert flags.of(["c"]) == {"c": "ann"}
    with pytest.raises(BrokerUnavailableError):
        flags.subscription().next(0.1)
    broker.close()
    assert len(caplog.records) == 2, "each is said once"
    assert all("Redis refuses" in record.getMessage() for record in caplog.records)


def test_without_the_right_to_ask_who_redis_is_its_loss_is_noticed_all_the_same(
    own: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    broker = _broker(own, "~p:*", "&p:*", "+@all", "-info")
    marker = Marker(broker.client, "p")
    assert [marker.lost(), marker.lost()] == ["is empty", ""]
    with redis.Redis.from_url(own.url) as client:
        client.flushall()
    assert [marker.lost(), marker.lost()] == ["is empty", ""]
    assert len(caplog.records) == 1
    broker.close()
