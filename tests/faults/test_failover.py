"""ATM on a primary with a replica: planned switches that leave sessions open, a primary that is killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_replication import Replicated
from fix_system import System, eventually
from fix_valkey import Valkey
from trickle import trickle

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

#: How many planned switches are made.
SWITCHES = int(os.environ.get("ATM_SWITCHES", "3"))
#: How long a client insists.
INSIST_SECONDS = 60.0


@pytest.fixture
def system(tmp_path: Path, valkey: Valkey, replicated: Replicated) -> Iterator[System]:
    """Two servers and two workers."""
    folder = tmp_path / "system"
    folder.mkdir()
    made = System(folder, valkey.address, replicated.create_database())
    try:
        for _ in range(2):
            made.start_server()
            made.start_worker()
        yield made
    finally:
        made.stop()


def test_after_a_planned_switch_no_session_stays_on_the_old_primary(
    system: System, replicated: Replicated, capsys: pytest.CaptureFixture[str]
) -> None:
    created: set[str] = set()
    took = []
    for _ in range(SWITCHES):
        # The tests' own sessions.
        system.database.engine.dispose()
        with trickle(system, "note_start", INSIST_SECONDS) as made:
            replicated.switch()
            switched_at, before = time.monotonic(), len(made.ids)
            eventually(lambda made=made, before=before: len(made.ids) > before + 1)  # type: ignore[misc]
            client = system.client()
            newest = made.ids[-1]
            assert client.wait_for_task(newest, 60).status == "SUCCESS"
            took.append(time.monotonic() - switched_at)
            old = replicated.replica
            eventually(lambda old=old: not replicated.sessions(old), what="sessions stay")  # type: ignore[misc]
        created.update(made.ids)
    system.check_starts(created)
    with capsys.disabled():
        print(
            f"\n{SWITCHES} switches, {len(created)} tasks; a new one had run after {max(took):.1f} s at most"
        )


def test_a_primary_that_is_killed_takes_nothing_with_it_that_was_accepted(
    system: System, replicated: Replicated
) -> None:
    with trickle(system, "note_start", INSIST_SECONDS) as made:
        replicated.fail_over()
    system.check_starts(made.ids)
