"""The lead: one server has it, its epoch only grows, and SQL names the one that has it."""

from __future__ import annotations

import pytest
import redis
from fix_valkey import Valkey

from atm.broker.lease import Hold, Lease
from atm.errors import BrokerUnavailableError
from atm.models import now
from atm.scheduler import leadership as module
from atm.scheduler.leadership import LEASE_MS, RENEW_SECONDS, Leadership
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


class _Lease(Lease):
    """A lease by the test's word. While Redis is away, both methods raise."""

    def __init__(self, answer: Hold = Hold.TAKEN) -> None:
        self.answer = answer
        self.away = False
        self.released = 0

    def hold(self) -> Hold:
        self._ask()
        return self.answer

    def release(self) -> None:
        self._ask()
        self.released += 1

    def _ask(self) -> None:
        if self.away:
            raise BrokerUnavailableError("away")


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_who_cannot_renew_its_lease_stops_before_another_may_have_it(
    database: Database, clock: _Clock
) -> None:
    leader = Leadership(database, _Lease(), "a")
    assert not leader.leads()
    leader.run_once()
    assert leader.leads()
    clock.now += LEASE_MS / 1000 - 0.25
    assert leader.leads()
    clock.now += 0.2
    assert not leader.leads()
    leader.run_once()
    assert leader.leads()


def test_the_time_that_asking_took_is_not_counted(database: Database, clock: _Clock) -> None:
    class Slow(_Lease):
        def hold(self) -> Hold:
            clock.now += LEASE_MS / 1000
            return super().hold()

    leader = Leadership(database, Slow(), "a")
    leader.run_once()
    assert not leader.leads()


def test_a_leader_that_is_refused_stops_at_once(database: Database) -> None:
    lease = _Lease()
    leader = Leadership(database, lease, "a")
    leader.run_once()
    assert leader.interval == 2 * RENEW_SECONDS
    lease.answer = Hold.REFUSED
    leader.run_once()
    assert not leader.leads()
    # It looks as often as the others again.
    assert leader.interval == RENEW_SECONDS


def test_without_redis_the_last_leader_goes_on_until_sql_knows_another(
    database: Database, clock: _Clock
) -> None:
    lease, other = _Lease(), _Lease()
    leader, follower = Leadership(database, lease, "a"), Leadership(database, other, "b")
    leader.run_once()
    lease.away = other.away = True
    for _ in range(3):
        clock.now += LEASE_MS / 1000
        leader.run_once()
        follower.run_once()
        assert [leader.leads(), follower.leads()] == [True, False]
    assert _named(database) == ("a", 1)
    # Redis is back for the other one first.
    database.write(lambda connection: servers.take_lead(connection, "b", now()))
    leader.run_once()
    assert not leader.leads()


def test_a_lead_that_cannot_be_handed_over_is_given_up_all_the_same(database: Database) -> None:
    lease = _Lease()
    leader = Leadership(database, lease, "a")
    leader.run_once()
    lease.away = True
    leader.hand_over()
    assert not leader.leads()
    # It has nothing more to hand over.
    lease.away = False
    leader.hand_over()
    assert lease.released == 0
