"""High goes first, and Normal is never starved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_system import System, eventually

from atm.client import Client


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


def _block(client: Client, system: System) -> None:
    client.create_task("note_start", {"name": "block", "seconds": "1.5"})
    eventually(lambda: _starts(system.folder))


def test_a_high_task_overtakes_every_normal_one_that_has_not_begun(slow_system: System) -> None:
    client = slow_system.client()
    _block(client, slow_system)
    for number in range(20):
        client.create_task("note_start", {"name": f"normal-{number}"})
    client.create_task("note_start", {"name": "high"}, priority="high")
    eventually(lambda: len(_starts(slow_system.folder)) == 22, 20)
    names = [name for name, _ in _starts(slow_system.folder)]
    assert names[1] == "high"
    assert names[2:] == [f"normal-{number}" for number in range(20)]


def test_a_flood_of_high_leaves_normal_one_start_in_nine(slow_system: System) -> None:
    client = slow_system.client()
    _block(client, slow_system)
    for number in range(40):
        client.create_task("note_start", {"name": f"high-{number}"}, priority="high")
    for number in range(4):
        client.create_task("note_start", {"name": f"normal-{number}"})
    eventually(lambda: len(_starts(slow_system.folder)) == 45, 20)
    priorities = [priority for _, priority in _starts(slow_system.folder)][1:]
    for begin in range(0, 36, 9):
        assert priorities[begin : begin + 9].count(0) == 1, priorities
