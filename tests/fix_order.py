"""The order of the tests, and how pytest-xdist spreads them over its processes (`--dist loadfile`).

What waits longest comes first, so that no process is left alone with it at the
end. A test of faults has servers of its own, and goes wherever there is room;
those of OceanBase go to one process, for each would start a server of it.
"""

from __future__ import annotations

import pytest

_ALONE = ("tests/faults/", "tests/chaos/")
_FIRST = ("tests/faults/", "tests/acceptance/", "tests/integration/", "tests/conformance/")
_ONE_SERVER = ("oceanbase", "galera")


def unit_of(nodeid: str) -> str:
    """What the test is kept in one process with."""
    for server in _ONE_SERVER:
        if server in nodeid:
            return server
    return nodeid if nodeid.startswith(_ALONE) else nodeid.split("::", 1)[0]


def _turn(item: pytest.Item) -> int:
    if unit_of(item.nodeid) in _ONE_SERVER:
        return -1
    return next((turn for turn, folder in enumerate(_FIRST) if item.nodeid.startswith(folder)), len(_FIRST))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts them; those of one folder stay as they are."""
    items.sort(key=_turn)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """The scheduler of `--dist loadfile`, with units of ours, in our order."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)  # type: ignore[arg-type]
