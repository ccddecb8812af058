"""What the tests of faults share."""

from __future__ import annotations

import pytest
from fix_system import COVERAGE


@pytest.fixture(autouse=True)
def unmeasured_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that they start and kill are not measured, which takes a third longer: what they run is
    measured where nothing kills it.
    """
    for name in COVERAGE:
        monkeypatch.delenv(name, raising=False)
