"""One fault at a time, under load: nothing is lost, nothing is doubled, and every history is legal."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
from fix_faketime import require_faketime
from fix_mariadb import require_mariadb
from fix_system import eventually

from chaos.checker import check, doubled_requests, unfinished
from chaos.faults import CANCELLED_BY_FAULTS, OF_CLOCKS, Fault, faults_for
from chaos.installation import Installation, Journal
from chaos.load import Load

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]
_CASES = [("mariadb", fault) for fault in faults_for("mariadb")] + [
    ("sqlite", fault) for fault in faults_for("sqlite")
]


@pytest.fixture(scope="module")
def installations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Installation]]:
    made: dict[str, Installation] = {}
    yield _Started(tmp_path_factory, made)
    for installation in made.values():
        installation.stop()


class _Started(dict[str, Installation]):
    """Starts an installation when it is first asked for, and stops the other: there are two cores."""

    def __init__(self, factory: pytest.TempPathFactory, made: dict[str, Installation]) -> None:
        super().__init__()
        self._factory = factory
        self._made = made

    def __missing__(self, database: str) -> Installation:
        for other in list(self._made):
            self._made.pop(other).stop()
            self.pop(other, None)
        # A shorter lease than the default, so that the suite fits into CI.
        installation = Installation(self._factory.mktemp(database), database, worker_lease=4.0)
        self._made[database] = self[database] = installation
        installation.start()
        return installation


@pytest.mark.parametrize(("database", "fault"), _CASES, ids=lambda value: getattr(value, "__name__", value))
def test_nothing_is_lost_or_doubled(
    installations: dict[str, Installation], database: str, fault: Fault
) -> None:
    if database == "mariadb":
        require_mariadb()
    if fault in OF_CLOCKS:
        require_faketime()
    installation = installations[database]
    load = Load(installation, seed=1)
    load.start()
    time.sleep(1.0)
    fault(installation, random.Random(1))
    installation.probe()
    accepted = load.stop()
    assert accepted.tasks, "the load created nothing"
    eventually(lambda: unfinished(installation.database) == 0, 60, "tasks do not end")
    cancelled = accepted.cancelled | CANCELLED_BY_FAULTS | _cancelled_before(installation, accepted.cancelled)
    journal = Journal(installation.folder).entries()
    problems = check(installation.database, accepted.tasks, cancelled, journal)
    assert not problems + doubled_requests(accepted.requests), "\n".join(problems)


_BEFORE: dict[str, set[str]] = {}


def _cancelled_before(installation: Installation, now: set[str]) -> set[str]:
    """The tests share an installation: what an earlier one cancelled is in its tables too."""
    known = _BEFORE.setdefault(str(installation.folder), set())
    known |= now
    return known
