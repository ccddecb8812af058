"""ATM, a durable task manager.

What a module of handlers needs is here: ``from atm import handler, Context``.
Imported lazily, so that the client library and the command line do not pay for
what only a worker uses.
"""

from typing import TYPE_CHECKING, Any

from atm._version import __version__

if TYPE_CHECKING:
    from atm.errors import NonRetryableError, TaskCancelled, TaskTimedOut
    from atm.retrying import Retry
    from atm.worker.context import Context
    from atm.worker.handlers import handler

_HOMES = {
    "Context": "atm.worker.context",
    "NonRetryableError": "atm.errors",
    "Retry": "atm.retrying",
    "TaskCancelled": "atm.errors",
    "TaskTimedOut": "atm.errors",
    "handler": "atm.worker.handlers",
}

__all__ = ["Context", "NonRetryableError", "Retry", "TaskCancelled", "TaskTimedOut", "__version__", "handler"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'atm' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
