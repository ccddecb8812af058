"""Readiness: what the health service is told, when something has changed and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
from grpc_health.v1 import health_pb2

from atm.broker.broker import TaskBroker
from atm.errors import BrokerUnavailableError, UnavailableError
from atm.server import readiness as module
from atm.server.readiness import LOOK_SECONDS, Readiness
from atm.store.database import Database

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
ALL, WITHOUT_SQL, WITHOUT_REDIS, NOTHING = (True, True), (False, True), (True, False), (False, False)


class _Checker:
    """The health service: what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    async def set(self, name: str, status: int) -> None:
        self.told.append((name, status))


class _World:
    """SQL and Redis, of which each is there or not."""

    def __init__(self) -> None:
        self.sql, self.redis = ALL
        self.database, self.broker = _Database(self), _Broker(self)


class _Database(Database):
    def __init__(self, world: _World) -> None:
        self._world = world

    def ping(self) -> None:
        if not self._world.sql:
            raise UnavailableError("away")


class _Broker(TaskBroker):
    def __init__(self, world: _World) -> None:
        self._world = world

    def probe(self) -> None:
        if not self._world.redis:
            raise BrokerUnavailableError("away")


class _OverError(Exception):
    """The test has seen enough."""


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[tuple[bool, bool]]], list[tuple[str, int]]]:
    """What is told while the world is like this, and then like that, one look at each."""

    def run(worlds: Sequence[tuple[bool, bool]]) -> list[tuple[str, int]]:
        checker, world, left = _Checker(), _World(), list(worlds)

        def change() -> None:
            if not left:
                raise _OverError
            world.sql, world.redis = left.pop(0)

        async def sleep(seconds: float) -> None:
            assert seconds == LOOK_SECONDS
            change()

        names = ("gather", "to_thread")
        clockwork = SimpleNamespace(sleep=sleep, **{name: getattr(asyncio, name) for name in names})
        monkeypatch.setattr(module, "asyncio", clockwork)
        change()
        with pytest.raises(_OverError):
            asyncio.run(Readiness(checker, "the.Service", world.database, world.broker).run())
        return checker.told

    return run


Look = Callable[[Sequence[tuple[bool, bool]]], list[tuple[str, int]]]


def test_what_can_be_reached_is_told(look: Look) -> None:
    assert look([ALL]) == [("", SERVING), ("the.Service", SERVING), ("sql", SERVING), ("redis", SERVING)]


def test_without_sql_no_call_can_be_answered_but_the_process_lives(look: Look) -> None:
    assert dict(look([WITHOUT_SQL])) == {
        "": SERVING,
        "the.Service": NOT_SERVING,
        "sql": NOT_SERVING,
        "redis": SERVING,
    }


def test_without_redis_calls_are_answered(look: Look) -> None:
    assert dict(look([WITHOUT_REDIS])) == {
        "": SERVING,
        "the.Service": SERVING,
        "sql": SERVING,
        "redis": NOT_SERVING,
    }


def test_only_a_change_is_told(look: Look, caplog: pytest.LogCaptureFixture) -> None:
    first = len(look([ALL]))
    assert look([ALL, ALL, WITHOUT_REDIS, WITHOUT_REDIS, NOTHING, ALL])[first:] == [
        ("redis", NOT_SERVING),
        ("the.Service", NOT_SERVING),
        ("sql", NOT_SERVING),
        ("the.Service", SERVING),
        ("sql", SERVING),
        ("redis", SERVING),
    ]
    assert [record.getMessage() for record in caplog.records][:2] == [
        "redis is not serving: away",
        "the.Service is not serving: away",
    ]


def test_what_is_wrong_from_the_start_is_told_at_once(look: Look, caplog: pytest.LogCaptureFixture) -> None:
    look([WITHOUT_REDIS, WITHOUT_REDIS])
    assert [record.getMessage() for record in caplog.records] == ["redis is not serving: away"]
