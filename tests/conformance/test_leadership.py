"""The lead: one server has it, its epoch only grows, and SQL has the lease of the one that leads."""

from __future__ import annotations

from datetime import timedelta

import pytest

from atm.scheduler import leadership as module
from atm.scheduler.leadership import LEASE, RENEW_SECONDS, Leadership
from atm.store import servers
from atm.store.database import Database

SECOND = timedelta(seconds=1)


class _Server(Leadership):
    """A server that the test tells whether Redis answers it."""

    def __init__(self, database: Database, name: str) -> None:
        super().__init__(database, name, lambda: self.has_redis)
        self.has_redis = True


class _Time:
    """What both the database's clock and the processes' own go by."""

    def __init__(self, database: Database) -> None:
        self.base = database.clock.now()
        self.passed = 0.0

    def monotonic(self) -> float:
        return self.passed

    def pass_(self, time: timedelta) -> None:
        self.passed += time.total_seconds()


@pytest.fixture
def time(database: Database, monkeypatch: pytest.MonkeyPatch) -> _Time:
    made = _Time(database)
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(database.clock, "now", lambda: made.base + timedelta(seconds=made.passed))
    return made


def _named(database: Database) -> tuple[str, int]:
    leader = database.read(servers.leader)
    return leader.instance_id, leader.epoch


def _look(*all_servers: _Server) -> list[bool]:
    for server in all_servers:
        server.run_once()
    return [server.leads() for server in all_servers]


def test_one_of_many_leads_and_keeps_its_epoch(database: Database) -> None:
    a, b, c = (_Server(database, name) for name in "abc")
    for _ in range(3):
        assert _look(a, b, c) == [True, False, False]
    assert _named(database) == ("a", 1)
    a.hand_over()
    assert _look(b, c) == [True, False]
    assert not a.leads()
    assert _named(database) == ("b", 2)


def test_a_leader_that_is_silent_is_followed_when_its_lease_is_over_and_not_before(
    database: Database, time: _Time
) -> None:
    a, b = _Server(database, "a"), _Server(database, "b")
    assert _look(a, b) == [True, False]
    time.pass_(LEASE - timedelta(milliseconds=100))
    b.run_once()
    # It has stopped by itself before another one may lead.
    assert (a.leads(), b.leads()) == (False, False)
    time.pass_(timedelta(milliseconds=200))
    b.run_once()
    assert b.leads()
    assert _named(database) == ("b", 2)
    # Frozen meanwhile, it does not know.
    assert _look(a, b) == [False, True]
    assert _named(database) == ("b", 2)


def test_a_leader_whose_lease_is_over_goes_on_in_its_epoch_when_nobody_has_followed(
    database: Database, time: _Time
) -> None:
    a = _Server(database, "a")
    a.run_once()
    time.pass_(5 * LEASE)
    assert not a.leads()
    assert _look(a) == [True]
    assert _named(database) == ("a", 1)


def test_the_time_that_asking_took_is_not_counted(
    database: Database, time: _Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = _Server(database, "a")
    take_lead = servers.take_lead

    def slowly(*arguments: object) -> bool:
        time.pass_(LEASE)
        return take_lead(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(servers, "take_lead", slowly)
    a.run_once()
    assert not a.leads()


def test_of_two_that_follow_at_the_same_moment_one_leads(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = _Server(database, "a"), _Server(database, "b")
    leader = servers.leader

    def then_the_other(*arguments: object) -> object:
        last = leader(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(servers, "leader", leader)
        b.run_once()
        return last

    monkeypatch.setattr(servers, "leader", then_the_other)
    a.run_once()
    assert [a.leads(), b.leads()] == [False, True]
    assert _named(database) == ("b", 1)


def test_a_leader_that_has_lost_redis_goes_on_until_one_that_has_it_follows(
    database: Database, time: _Time
) -> None:
    a, b, c = (_Server(database, name) for name in "abc")
    assert _look(a, b, c) == [True, False, False]
    for server in (a, b, c):
        server.has_redis = False
    for _ in range(3):
        time.pass_(SECOND)
        assert _look(a, b, c) == [True, False, False]
    assert _named(database) == ("a", 1)
    c.has_redis = True
    assert _look(a, b, c) == [True, False, True]
    assert _look(a, b, c) == [False, False, True]
    assert _named(database) == ("c", 2)
    # Everybody has it again: nobody moves.
    a.has_redis = b.has_redis = True
    assert _look(a, b, c) == [False, False, True]


def test_a_lease_from_the_time_of_another_database_holds_nobody_up(database: Database, time: _Time) -> None:
    a, b = _Server(database, "a"), _Server(database, "b")
    a.run_once()
    # After a failover to a server whose clock is an hour behind.
    time.base -= timedelta(hours=1)
    b.run_once()
    assert b.leads()


def test_a_leader_looks_half_as_often_as_the_others(database: Database) -> None:
    a, b = _Server(database, "a"), _Server(database, "b")
    _look(a, b)
    assert (a.interval, b.interval) == (2 * RENEW_SECONDS, RENEW_SECONDS)
    a.hand_over()
    assert a.interval == RENEW_SECONDS


def test_who_has_no_lead_hands_nothing_over(database: Database) -> None:
    a, b = _Server(database, "a"), _Server(database, "b")
    _look(a, b)
    b.hand_over()
    assert _look(a, b) == [True, False]
    assert _named(database) == ("a", 1)
