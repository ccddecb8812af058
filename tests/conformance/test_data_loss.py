"""What Redis has lost is noticed, and everything that waits is put up for the relay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from make_tasks import Tasks

from atm.broker.marker import Marker
from atm.models import now
from atm.scheduler import data_loss as module
from atm.scheduler.data_loss import DataLossDetector
from atm.store.database import Database


class _Redis(redis.Redis):
    """Only what the detector asks for: which run of which server this is, and a key."""

    def __init__(self) -> None:
        self.run_id = "first"
        self.holds: dict[str, str] = {}
        self.away = False

    def info(self, section: str | None = None, *_args: object, **_options: object) -> dict[str, str]:
        if self.away:
            raise redis.ConnectionError("away")
        assert section == "server"
        return {"run_id": self.run_id}

    def set(self, name: str, value: str, nx: bool = False) -> bool | None:  # type: ignore[override]
        assert nx
        if name in self.holds:
            return None
        self.holds[name] = value
        return True

    def restart(self, *, empty: bool) -> None:
        self.run_id += "+"
        if empty:
            self.holds.clear()


@pytest.fixture
def client() -> _Redis:
    return _Redis()


@pytest.fixture
def detector(database: Database, client: _Redis, prefix: str) -> DataLossDetector:
    """One that has seen that Redis is there and holds something."""
    made = DataLossDetector(database, Marker(client, prefix))
    assert not made.run_once()
    assert client.holds
    return made


def _is_up(made: Tasks, task: str) -> bool:
    """Whether the relay sends it next."""
    at = made.get(task).dispatch_at
    return at is not None and at <= now()


@pytest.mark.parametrize(
    "lose",
    [lambda client: client.restart(empty=True), lambda client: client.restart(empty=False)],
    ids=["another one", "the same one, restarted"],
)
def test_what_waits_and_is_due_is_put_up_and_nothing_else(
    made: Tasks, client: _Redis, detector: DataLossDetector, lose: Callable[[_Redis], None]
) -> None:
    due, delayed, running, ended = (
        made.waiting(),
        made.waiting(delay_ms=3_600_000),
        made.running(),
        made.ended(),
    )
    assert not detector.run_once()
    assert not _is_up(made, due)
    lose(client)
    assert not detector.run_once()
    assert [_is_up(made, task) for task in (due, delayed, running, ended)] == [True, False, False, False]
    assert made.get(running).dispatch_at is None


def test_a_server_that_starts_makes_up_for_what_an_empty_redis_lacks_and_only_for_that(
    made: Tasks, database: Database, client: _Redis, prefix: str
) -> None:
    before = made.waiting()
    assert not DataLossDetector(database, Marker(client, prefix)).run_once()
    assert _is_up(made, before)
    # The next server finds that one has been there.
    after = made.waiting()
    assert not DataLossDetector(database, Marker(client, prefix)).run_once()
    assert not _is_up(made, after)


def test_a_redis_that_was_flushed_has_lost_everything(
    made: Tasks, client: _Redis, detector: DataLossDetector
) -> None:
    task = made.waiting()
    client.holds.clear()
    detector.run_once()
    assert _is_up(made, task)


def test_a_loss_is_made_up_for_once(made: Tasks, client: _Redis, detector: DataLossDetector) -> None:
    client.restart(empty=True)
    detector.run_once()
    task = made.waiting()
    detector.run_once()
    assert not _is_up(made, task)


def test_a_redis_that_is_away_has_lost_nothing_yet(
    made: Tasks, client: _Redis, detector: DataLossDetector
) -> None:
    task = made.waiting()
    client.away = True
    assert not detector.run_once()
    client.away = False
    detector.run_once()
    assert not _is_up(made, task)
    client.away = True
    detector.run_once()
    client.restart(empty=False)
    client.away = False
    detector.run_once()
    assert _is_up(made, task)


def test_more_than_a_batch_is_put_up_in_turns_each_task_once(
    made: Tasks, client: _Redis, detector: DataLossDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    ids = sorted(made.waiting() for _ in range(5))
    client.restart(empty=True)
    up = []
    for more in (True, True, False):
        assert detector.run_once() is more
        up.append([task for task in ids if _is_up(made, task)])
    assert up == [ids[:2], ids[:4], ids]
    # It was one loss.
    later = made.waiting()
    assert not detector.run_once()
    assert not _is_up(made, later)
