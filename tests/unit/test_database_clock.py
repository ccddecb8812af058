"""Every process tells the database's time, whatever its own clock says, however long the answer took."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from fake_worker import Clock
from hypothesis import given
from hypothesis import strategies as st

from atm.store import clock as module
from atm.store.clock import NOTEWORTHY, DatabaseClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MS = timedelta(milliseconds=1)

hours = st.timedeltas(timedelta(hours=-2), timedelta(hours=2))
trips = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.floats(0, 3)), min_size=1, max_size=6)


class _World:
    """A process whose clock is off, and a database that takes its time to answer."""

    def __init__(self, patch: pytest.MonkeyPatch, off: timedelta = timedelta(0)) -> None:
        self.passed = Clock.of(patch, module)
        self.off = off
        #: By how much the database's own clock has jumped.
        self.jumped = timedelta(0)
        patch.setattr(module, "datetime", SimpleNamespace(now=lambda _: self.own))
        self.clock = DatabaseClock()

    @property
    def database(self) -> datetime:
        return NOON + timedelta(seconds=self.passed.now) + self.jumped

    @property
    def own(self) -> datetime:
        return self.database - self.jumped + self.off

    def ask(self, there: float = 0.0, back: float = 0.0) -> None:
        """One question, which takes so many seconds there and back."""
        asked_at = self.passed.now
        self.passed.now += there
        told = self.database
        self.passed.now += back
        self.clock.observe(told, asked_at, self.passed.now, self.own)

    @property
    def error(self) -> timedelta:
        return abs(self.clock.now() - self.database)


@given(hours, trips)
def test_it_is_never_further_off_than_the_fastest_answer_took(
    off: timedelta, asked: list[tuple[float, float, float]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = _World(patch, off)
        fastest = 10.0
        for there, back, pause in asked:
            world.ask(there, back)
            fastest = min(fastest, there + back)
            assert world.error <= timedelta(seconds=fastest) + MS
            world.passed.now += pause
            assert world.error <= timedelta(seconds=fastest) + MS


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> _World:
    return _World(monkeypatch)


def test_a_slow_answer_does_not_move_a_clock_that_is_right(world: _World) -> None:
    world.ask()
    for there, back in ((30.0, 0.0), (0.0, 30.0), (8.0, 8.0)):
        world.ask(there, back)
        assert world.error == timedelta(0)


def test_setting_the_clock_of_the_machine_changes_nothing(world: _World) -> None:
    world.ask()
    for off in (timedelta(hours=1), timedelta(hours=-1)):
        world.off = off
        world.passed.now += 1
        assert world.error == timedelta(0)
        world.ask()
        assert world.clock.ahead == off
        assert world.clock.ahead_ms == off / MS
        assert not world.clock.stepped_within(3600)


def test_a_database_whose_time_jumps_is_followed_and_the_jump_is_known(world: _World) -> None:
    world.ask()
    world.jumped = timedelta(minutes=10)
    world.ask()
    assert world.error == timedelta(0)
    assert world.clock.stepped_within(8)
    world.passed.now += 9
    assert not world.clock.stepped_within(8)


def test_what_is_learnt_first_is_no_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    world = _World(monkeypatch, timedelta(hours=-1))
    world.ask()
    assert not world.clock.stepped_within(3600)


def test_more_than_a_second_is_said_once_and_again_when_it_changes(
    world: _World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for seconds in (0.2, -0.9, 1.0, 12.0, 12.4, -3600.0, -3600.0, 0.0, 0.5):
        world.off = timedelta(seconds=seconds)
        world.ask()
    said = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in said] == [logging.WARNING, logging.WARNING, logging.INFO]
    assert "12.0 s ahead of" in said[0][1]
    assert "3600.0 s behind" in said[1][1]
    assert timedelta(seconds=1) == NOTEWORTHY
