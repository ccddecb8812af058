"""A thread that does for many what would otherwise be done for each: one round trip to Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")

#: Items of one round trip.
MOST = 256
#: How long a busy thread waits for more.
GATHER_SECONDS = 0.001


class Batches(Generic[Item]):
    """Calls `use` with what was added since its last call. `use` must not raise."""

    def __init__(self, use: Callable[[list[Item]], Any], *, name: str) -> None:
        self._use = use
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def add(self, items: Iterable[Item]) -> None:
        """Has them used soon."""
        for item in items:
            self._queue.put(item)

    def close(self) -> None:
        """Uses what was added, and ends the thread."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        item = self._queue.get()
        last = 1
        while item is not None:
            if last > 1:
                # Busy: asleep for a moment, not woken by each item.
                time.sleep(GATHER_SECONDS)
            batch: list[Item] = []
            try:
                while item is not None and len(batch) < MOST:
                    batch.append(item)
                    item = self._queue.get_nowait()
            except Empty:
                self._use(batch)
                item = self._queue.get()
            else:
                self._use(batch)
            last = len(batch)
