"""High goes first, and Normal is never starved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from fix_system import System, eventually

from atm.broker import keys
from atm.client import Client
from atm.lists import lists_of


@pytest.fixture
def slow_system(new_system: System) -> Iterator[System]:
    """A server and one worker with a single thread."""
    new_system.start_server()
    new_system.start_worker(threads=1)
    yield new_system
    new_system.check_history()


def _starts(folder: Path) -> list[tuple[str, int]]:
    """(name, priority) in the order of the starts."""
    file = folder / "starts"
    rows = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [(row[3], int(row[2])) for row in sorted(rows, key=lambda row: int(row[0]))]


def _hold(client: Client, system: System) -> str:
    """Keeps the only thread until `let_go("go")`; the task that does it."""
    task = client.create_task("hold", {"until": "go"})
    eventually(lambda: system.marks(task.task_id))
    return task.task_id


def _finish(client: Client, system: System, ids: list[str]) -> None:
    """Lets the thread go on when all that wait for it are queued; returns when all of these have ended."""
    lists = [keys.waiting(system.prefix, of) for of in lists_of(["note_start"])]
    with redis.Redis.from_url(f"redis://{system.redis_addr}") as direct:
        # The answer says that a task is in SQL; it is sent after that.
        eventually(lambda: sum(direct.llen(name) for name in lists) == len(ids) - 1)
    system.let_go("go")
    assert {client.wait_for_task(task_id, 60).status for task_id in ids} == {"SUCCESS"}


def test_a_high_task_overtakes_every_normal_one_that_has_not_begun(slow_system: System) -> None:
    client = slow_system.client()
    held = _hold(client, slow_system)
    normal = [client.create_task("note_start", {"name": f"normal-{n}"}).task_id for n in range(20)]
    high = client.create_task("note_start", {"name": "high"}, priority="high").task_id
    _finish(client, slow_system, [held, *normal, high])
    names = [name for name, _ in _starts(slow_system.folder)]
    assert names == ["high", *(f"normal-{number}" for number in range(20))]


def test_a_flood_of_high_leaves_normal_one_start_in_nine(slow_system: System) -> None:
    client = slow_system.client()
    held = _hold(client, slow_system)
    high = [client.create_task("note_start", {"name": "high"}, priority="high").task_id for _ in range(40)]
    normal = [client.create_task("note_start", {"name": "normal"}).task_id for _ in range(4)]
    _finish(client, slow_system, [held, *high, *normal])
    priorities = [priority for _, priority in _starts(slow_system.folder)]
    assert len(priorities) == 44
    for begin in range(0, 36, 9):
        assert priorities[begin : begin + 9].count(0) == 1, priorities
