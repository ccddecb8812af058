"""A queue that many threads fill, and one thread empties by the batch.

Waking a thread costs more than the work it is woken for. So the thread that
empties the queue sleeps until there is enough, and is woken once.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")

_NEVER = sys.maxsize


class BatchQueue(Generic[Item]):
    """Holds items in their order. `take` is for one thread, every other method for any."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[Item] = deque()
        self._closed = False
        #: How many items wake `take`.
        self._awaited = _NEVER
        self._expected = 1
        self._bell = threading.Lock()
        self._bell.acquire()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, items: Iterable[Item]) -> None:
        """Adds items, in their order."""
        self._items.extend(items)
        if len(self._items) >= self._awaited:
            self._ring()

    def close(self) -> None:
        """Ends the waiting of `take`, which then gives what is left, and after that nothing."""
        self._closed = True
        self._ring()

    def take(self, patience: float) -> list[Item]:
        """Waits for one item, and takes up to `most`; an empty list when the queue is closed and empty.

        Callers who put an item into the last batch are likely to put another
        one soon, so as many items as that batch had are waited for, up to
        `patience` seconds. After a batch of one item nothing is waited for.
        """
        self._wait_for(1)
        if self._expected > 1:
            self._wait_for(self._expected, patience)
        batch = [self._items.popleft() for _ in range(min(self._most, len(self._items)))]
        self._expected = min(self._most, max(len(batch), self._expected * 3 // 4))
        return batch

    def _wait_for(self, count: int, seconds: float = -1) -> None:
        self._awaited = count
        while len(self._items) < count and not self._closed:
            if not self._bell.acquire(timeout=seconds):
                break
            # It may have been rung for an earlier wait, by a thread that was slow.
            self._awaited = count
        self._awaited = _NEVER

    def _ring(self) -> None:
        self._awaited = _NEVER
        # Another thread may have rung at the same moment.
        with suppress(RuntimeError):
            self._bell.release()
