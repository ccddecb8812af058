"""Tests of handlers, without a server and with one.

    from atm.testing import at_progress, run_handler

    def test_a_charge_that_is_cancelled_halfway():
        run = run_handler(charge, {"customer": "Ada", "amount": 3}, cancel_at=at_progress(0.5))
        assert run.status == "CANCELLED"

`run_handler` calls one handler as a worker would, with no server, Redis or SQL.
The fixture `atm_server` of the pytest plugin (atm.testing.plugin) starts a
whole installation with the handlers of the project.

Imported lazily: pytest loads the plugin in every run, also where nothing of
this is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atm.testing.handlers import run_handler, start_handler
    from atm.testing.moments import at_line, at_progress, at_seconds
    from atm.testing.run import HandlerEndedError, HandlerRun
    from atm.testing.server import AtmServer

_HOMES = {
    "AtmServer": "atm.testing.server",
    "HandlerEndedError": "atm.testing.run",
    "HandlerRun": "atm.testing.run",
    "at_line": "atm.testing.moments",
    "at_progress": "atm.testing.moments",
    "at_seconds": "atm.testing.moments",
    "run_handler": "atm.testing.handlers",
    "start_handler": "atm.testing.handlers",
}

__all__ = [
    "AtmServer",
    "HandlerEndedError",
    "HandlerRun",
    "at_line",
    "at_progress",
    "at_seconds",
    "run_handler",
    "start_handler",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'atm.testing' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
