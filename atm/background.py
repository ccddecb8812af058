"""Background roles: what they are, and the threads that run them, in servers and in workers alike."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from atm.errors import UnavailableError

logger = logging.getLogger(__name__)

#: How long a role rests that could not reach what it needs, or failed.
REST_SECONDS = 1.0
_STOP_SECONDS = 5.0


class Role(Protocol):
    """One thing that is done again and again; `interval` is the number of seconds between two times."""

    @property
    def interval(self) -> float: ...

    def run_once(self) -> bool:
        """Does it once; True when there is more to do. Raises UnavailableError without SQL or Redis."""


class Runner:
    """Runs each role in a thread of its own, so that a slow one delays no other.

    Nothing is begun while `gate` is False. A role that fails is run again:
    its error is logged, an outage at WARNING when it begins.
    """

    def __init__(self, roles: Sequence[Role], gate: Callable[[], bool] = lambda: True) -> None:
        self._stopping = threading.Event()
        self._gate = gate
        self._threads = [
            threading.Thread(
                target=self._run, args=(role,), name=f"atm-{_kebab(type(role).__name__)}", daemon=True
            )
            for role in roles
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends them, each after what it is doing. Called from one of them, that one is not waited for."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(_STOP_SECONDS)

    def _run(self, role: Role) -> None:
        more, name, is_out = False, type(role).__name__, False
        while more or not self._stopping.wait(role.interval):
            if self._stopping.is_set():
                return
            if not self._gate():
                more = False
                continue
            try:
                more = role.run_once()
                is_out = False
            except UnavailableError as error:
                logger.log(logging.DEBUG if is_out else logging.WARNING, "%s: %s; trying again", name, error)
                more, is_out = False, True
                self._stopping.wait(REST_SECONDS)
            except Exception:
                logger.exception("%s failed; it goes on", name)
                more = False
                self._stopping.wait(REST_SECONDS)


def _kebab(name: str) -> str:
    return re.sub("(?<=[a-z])([A-Z])", r"-\1", name).lower().strip("_")
