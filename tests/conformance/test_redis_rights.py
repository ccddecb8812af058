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
from atm.broker.marker import Marker
from atm.broker.notifications import NotificationListener
from atm.errors import BrokerUnavailableError
from atm.lists import Hint, TaskList, lists_of

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
LISTS = lists_of(["one", "other"])
HINTS = [Hint("a", 1, TaskList("one", 0)), Hint("b", 1, TaskList("other", 1))]
DONE = [Acknowledgement("a:1", "a"), Acknowledgement("b:1", "b")]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Valkey]:
    made = Valkey(tmp_path)
    made.start()
    yield made
    made.stop()


def _rights() -> list[str]:
    """Those that the page on operations tells to give."""
    (line,) = re.findall(r"^ACL SETUSER atm on >\S+ (.*)$", DOCS.read_text(), re.MULTILINE)
    return line.replace("{atm}:", "{p}:").split()


def _broker(own: Valkey, *rights: str) -> TaskBroker:
    with redis.Redis.from_url(own.url) as client:
        client.execute_command("ACL", "SETUSER", "user", "reset", "on", ">secret", *rights)
    return TaskBroker(own.url.replace("redis://", "redis://user:secret@"), prefix="p")


def test_with_the_rights_that_are_documented_everything_works(
    own: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    broker = _broker(own, *_rights())
    listener = NotificationListener(broker.client, "p", lambda _: None)
    flags = CancelFlags(broker.client, "p")
    heard = flags.subscription()
    marker = Marker(broker.client, "p")
    for _ in range(2):
        listener.run_once()
        heard.next(0.1)
    assert broker.ping()
    broker.probe()
    assert broker.send(HINTS) == []
    broker.wait(LISTS, 1)
    _, found = broker.fetch(LISTS, 5, 0)
    assert len(found) == 2
    broker.requeue(found)
    broker.requeue(broker.fetch(LISTS, 5, 0)[1], last=True)
    broker.fetch(LISTS, 5, 0)
    broker.acknowledge(DONE)
    broker.heartbeat_timeout = -1000
    broker.recover()
    broker.wake()
    assert broker.room(LISTS) == {}
    broker.caught_up(LISTS)
    flags.set("c", "ann")
    assert flags.of(["c"]) == {"c": "ann"}
    assert heard.next(5.0) == "c"
    assert [marker.lost(), marker.lost()] == ["is empty", ""]
    for part in (listener, heard, broker):
        part.close()
    assert not caplog.records


def test_without_the_right_to_publish_messages_are_acknowledged_and_flags_raised(
    own: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    broker = _broker(own, "~{p}:*", "resetchannels", "+@all")
    broker.send(HINTS)
    assert len(broker.fetch(LISTS, 5, 0)[1]) == 2
    for _ in range(3):
        broker.acknowledge(DONE)
    with redis.Redis.from_url(own.url) as client:
        assert not client.exists(keys.messages("p"), keys.fetched("p"))
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
    broker = _broker(own, "~{p}:*", "&{p}:*", "+@all", "-info")
    marker = Marker(broker.client, "p")
    assert [marker.lost(), marker.lost()] == ["is empty", ""]
    with redis.Redis.from_url(own.url) as client:
        client.flushall()
    assert [marker.lost(), marker.lost()] == ["is empty", ""]
    assert len(caplog.records) == 1
    broker.close()
