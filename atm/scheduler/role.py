"""What a role of the scheduler is, and the clock that runs it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from atm.errors import UnavailableError

logger = logging.getLogger(__name__)


class Role(Protocol):
    """One kind of sweep; `interval` is the number of seconds between two of them."""

    @property
    def interval(self) -> float: ...

    def run_once(self) -> bool:
        """One sweep; True when there is more to do at once. Raises UnavailableError without SQL."""


class Runner:
    """Runs each role in a thread of its own, so that a slow one delays no other.

    No sweep starts while `gate` is False.
    """

    def __init__(self, roles: Sequence[Role], gate: Callable[[], bool] = lambda: True) -> None:
        self._stopping = threading.Event()
        self._gate = gate
        self._threads = [
            threading.Thread(
                target=self._run, args=(role,), name=f"atm-{type(role).__name__.lower()}", daemon=True
            )
            for role in roles
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends them after the sweep that each is in."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def _run(self, role: Role) -> None:
        more = False
        while more or not self._stopping.wait(role.interval):
            if self._stopping.is_set():
                return
            if not self._gate():
                more = False
                continue
            try:
                more = role.run_once()
            except UnavailableError as error:
                logger.warning("%s: %s; trying again", type(role).__name__, error)
                more = False
                self._stopping.wait(1.0)
            except Exception:
                logger.exception("%s failed; it goes on", type(role).__name__)
                more = False
                self._stopping.wait(1.0)
