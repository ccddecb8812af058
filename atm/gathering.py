"""A queue that many threads fill one by one, and one thread empties by the batch.

Being woken costs a thread more than the work that it is woken for. So the one
that empties sleeps until there is enough, and those who fill wake it once.
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


class Gathering(Generic[Item]):
    """Holds items in their order. `take` is for one thread, everything else for any."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[Item] = deque()
        self._closed = False
        #: How many have to be here for `take` to be woken.
        self._awaited = _NEVER
        self._expected = 1
        self._bell = threading.Lock()
        self._bell.acquire()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Adds one."""
        self._items.append(item)
        if len(self._items) >= self._awaited:
            self._ring()

    def extend(self, items: Iterable[Item]) -> None:
        """Adds several."""
        self._items.extend(items)
        if len(self._items) >= self._awaited:
            self._ring()

    def close(self) -> None:
        """`take` waits no more: it gives what is left, then nothing."""
        self._closed = True
        self._ring()

    def take(self, patience: float) -> list[Item]:
        """Waits for one item, and takes up to `most`; an empty list after the last one.

        Those who have put the last batch are likely to come again: as many are
        waited for, up to `patience` seconds. One that was alone is not.
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
            # Perhaps an old ring, by one who was slow.
            self._awaited = count
        self._awaited = _NEVER

    def _ring(self) -> None:
        self._awaited = _NEVER
        # Another may have rung at the same moment.
        with suppress(RuntimeError):
            self._bell.release()
