"""The pytest plugin of ATM: the fixture `atm_server`, and the setting `atm_handlers`.

pytest imports it in every run of an environment that has ATM: what the
fixture needs is imported when a test asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from atm.testing.server import AtmServer

_INI = "atm_handlers"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Makes the setting known."""
    parser.addini(_INI, "modules with handlers, for the worker of the fixture atm_server", "args", [])


@pytest.fixture(scope="session")
def atm_handlers(pytestconfig: pytest.Config) -> Sequence[str]:
    """The modules with handlers that the worker imports: the setting, unless a project overrides this."""
    return [module for item in pytestconfig.getini(_INI) for module in item.split(",") if module]


@pytest.fixture(scope="session")
def atm_server(atm_handlers: Sequence[str], pytestconfig: pytest.Config) -> Iterator[AtmServer]:
    """A server with a worker that has the project's handlers, until the session ends.

    `.address` is `host:port`, `.client` a Client. All tests share it, and what
    they create stays. The worker's Python path is that of the tests.
    """
    from atm.testing.server import serving

    path = [entry or str(pytestconfig.invocation_params.dir) for entry in sys.path]
    path.append(str(pytestconfig.rootpath))
    with serving(list(atm_handlers), list(dict.fromkeys(path))) as server:
        yield server
