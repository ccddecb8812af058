"""A thread that does for many items at once what would otherwise be done for each: one round trip."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from atm.batching.batch_queue import BatchQueue

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

#: Items of one batch.
MOST = 256
#: How long a busy thread waits for more items.
GATHER_SECONDS = 0.001


class Batcher(Generic[Item]):
    """Calls `use`, in a thread of its own, with the items that were added since its last call.

    What `use` raises is logged, and its items are gone: `use` has to keep what
    must not be lost.
    """

    def __init__(self, use: Callable[[list[Item]], Any], *, name: str) -> None:
        self._use = use
        self._queue: BatchQueue[Item] = BatchQueue(MOST)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        #: Has items used soon.
        self.add = self._queue.add

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Uses what was added, and ends the thread."""
        self._queue.close()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while batch := self._queue.take(GATHER_SECONDS):
            try:
                self._use(batch)
            except Exception:
                logger.exception("%s lost a batch of %d", self._thread.name, len(batch))
