"""A thread that does for many what would otherwise be done for each: one round trip to Redis."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from atm.gathering import Gathering

Item = TypeVar("Item")

#: Items of one round trip.
MOST = 256
#: How long a busy thread waits for more.
GATHER_SECONDS = 0.001


class Batches(Generic[Item]):
    """Calls `use` with what was added since its last call. `use` must not raise."""

    def __init__(self, use: Callable[[list[Item]], Any], *, name: str) -> None:
        self._use = use
        self._added: Gathering[Item] = Gathering(MOST)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def add(self, items: Iterable[Item]) -> None:
        """Has them used soon."""
        self._added.extend(items)

    def close(self) -> None:
        """Uses what was added, and ends the thread."""
        self._added.close()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while batch := self._added.take(GATHER_SECONDS):
            self._use(batch)
