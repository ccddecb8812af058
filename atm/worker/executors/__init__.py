"""The three ways to run a handler: in the worker's thread, on its event loop, in a process of its own.

Each returns what the handler returned and raises what it raised; when an
interruption ended the handler, it raises `Stopped`, which says by which means.
"""

from __future__ import annotations

from typing import Any, Protocol

from atm.worker.attempt import Attempt


class Executor(Protocol):
    """Runs one attempt to its end, in the calling thread."""

    def run(self, attempt: Attempt, payload: Any) -> Any:
        """What the handler returned. Sets `attempt.handle` while there is something to stop."""

    def close(self) -> None:
        """Called once, when nothing runs any more."""
