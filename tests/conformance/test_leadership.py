"""The lead: one server has it, its epoch only grows, and SQL names the one that has it."""

from __future__ import annotations

import redis
from fix_valkey import Valkey

from atm.broker.lease import Lease
from atm.scheduler.leadership import LEASE_MS, Leadership
from atm.store import servers
from atm.store.database import Database


def _server(database: Database, client: redis.Redis, prefix: str, name: str) -> Leadership:
    return Leadership(database, Lease(client, prefix, name, LEASE_MS), name)


def _named(database: Database) -> tuple[str, int]:
    leader = database.read(servers.leader)
    return leader.instance_id, leader.epoch


def test_one_of_many_leads_and_keeps_its_epoch(database: Database, valkey: Valkey, prefix: str) -> None:
    client = redis.Redis.from_url(valkey.url)
    all_servers = [_server(database, client, prefix, name) for name in "abc"]
    for _ in range(3):
        for server in all_servers:
            server.run_once()
    assert [server.leads() for server in all_servers] == [True, False, False]
    assert _named(database) == ("a", 1)
    all_servers[0].hand_over()
    for server in all_servers[1:]:
        server.run_once()
    assert [server.leads() for server in all_servers] == [False, True, False]
    assert _named(database) == ("b", 2)


def test_a_lease_that_redis_lost_is_a_new_epoch_for_whoever_takes_it(
    database: Database, valkey: Valkey, prefix: str
) -> None:
    client = redis.Redis.from_url(valkey.url)
    first, second = (_server(database, client, prefix, name) for name in "ab")
    first.run_once()
    client.delete(f"{prefix}:leader")
    second.run_once()
    client.delete(f"{prefix}:leader")
    # It does not know that another one led in between.
    first.run_once()
    assert first.leads()
    assert _named(database) == ("a", 3)
    second.run_once()
    assert not second.leads()
    assert _named(database) == ("a", 3)
