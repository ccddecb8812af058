"""A Redis that answers and cannot be used is not taken for one that can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from fix_valkey import Valkey

from atm.broker.broker import Acknowledgement, TaskBroker
from atm.errors import BrokerUnavailableError
from atm.lists import Hint, TaskList

OF = TaskList("work", 0)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Valkey]:
    made = Valkey(tmp_path)
    made.start()
    yield made
    made.stop()


def _replica(client: redis.Redis) -> None:
    client.execute_command("REPLICAOF", "127.0.0.1", "1")


def _full(client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")


def _password(client: redis.Redis) -> None:
    client.config_set("requirepass", "secret")


def _no_rights(client: redis.Redis) -> None:
    client.execute_command("ACL", "SETUSER", "default", "resetkeys", "~other:*")


WRONG: dict[str, tuple[Callable[[redis.Redis], None], str]] = {
    "a replica": (_replica, "read only"),
    "full": (_full, "maxmemory"),
    "a password": (_password, "authenticated"),
    "no rights": (_no_rights, "permission|access"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_it_is_known_by_being_written_to_and_its_reason_is_told(own: Valkey, kind: str) -> None:
    broker = TaskBroker(own.url, prefix="p")
    broker.probe()
    hurt, words = WRONG[kind]
    with redis.Redis.from_url(own.url) as client:
        hurt(client)
        broker.client.connection_pool.disconnect()
        with pytest.raises(BrokerUnavailableError, match=rf"(?i){words}"):
            broker.probe()
    broker.close()


def test_a_database_that_is_not_there_is_told(own: Valkey) -> None:
    broker = TaskBroker(own.url.replace("/0", "/99"), prefix="p")
    with pytest.raises(BrokerUnavailableError, match=r"(?i)index"):
        broker.probe()
    broker.close()


def test_a_full_redis_takes_nothing_more_and_gives_out_what_it_has(own: Valkey) -> None:
    broker = TaskBroker(own.url, prefix="p")
    assert broker.send([Hint(f"task-{number:02d}", 1, OF) for number in range(20)]) == []
    with redis.Redis.from_url(own.url) as client:
        _full(client)
    with pytest.raises(BrokerUnavailableError):
        broker.send([Hint("more", 1, OF)])
    _, found = broker.fetch([OF], 5, 0)
    assert len(found) == 5
    broker.requeue(found[:2])
    broker.acknowledge([Acknowledgement(item.redis_id, "ended") for item in found[2:]])
    broker.recover()
    assert len(broker.fetch([OF], 50, 0)[1]) == 17
    broker.close()


def test_a_redis_that_knows_no_flags_of_scripts_gets_them_without(
    own: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = TaskBroker(own.url, prefix="p")
    load = broker.client.script_load

    def old(text: str) -> object:
        if text.startswith("#!"):
            raise redis.ResponseError(
                "Error compiling script (new function): user_script:1: unexpected symbol"
            )
        return load(text)

    monkeypatch.setattr(broker.client, "script_load", old)
    broker.send([Hint("task", 1, OF)])
    (item,) = broker.fetch([OF], 5, 0)[1]
    broker.acknowledge([Acknowledgement(item.redis_id)])
    broker.close()
