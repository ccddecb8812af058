"""ATM on OceanBase's engine, with a worker and the server killed under load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_oceanbase import OceanBase
from fix_system import System, eventually
from fix_valkey import Valkey
from trickle import trickle

#: How long a client insists.
INSIST_SECONDS = 60.0


@pytest.fixture
def system(tmp_path: Path, valkey: Valkey, oceanbase: OceanBase) -> Iterator[System]:
    """Two servers and two workers."""
    made = System(tmp_path, valkey.address, oceanbase.create_database())
    yield made
    made.stop()


def test_what_is_killed_loses_and_doubles_nothing(system: System) -> None:
    first = system.start_server()
    system.start_server()
    workers = [system.start_worker() for _ in range(2)]
    with trickle(system, "note_start", INSIST_SECONDS) as made:
        workers[0].kill()
        made.goes_on()
        first.kill()
        made.goes_on()
        system.start_worker(wait=False)
        workers[1].kill()
        eventually(lambda: system.client().wait_for_task(made.ids[-1], 60).status == "SUCCESS")
    system.check_starts(made.ids)
