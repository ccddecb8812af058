"""Acknowledges messages by the batch, and holds on to what Redis could not be told."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import redis

from atm.broker.batches import Batches

logger = logging.getLogger(__name__)

#: Between two tries to reach a Redis that is gone.
AGAIN_SECONDS = 0.5

Acknowledge = Callable[[str, Sequence[str]], None]


class Acknowledger:
    """Takes (queue, message id) from any thread.

    What Redis could not be told before `close` is told by nobody: the message
    is delivered again then, and refused, because SQL has what it did.
    """

    def __init__(self, acknowledge: Acknowledge) -> None:
        self._acknowledge = acknowledge
        self._leaving = threading.Event()
        self._batches: Batches[tuple[str, str]] = Batches(self._tell, name="atm-acknowledge")

    def start(self) -> None:
        """Starts the thread."""
        self._batches.start()

    def close(self) -> None:
        """Tells Redis what there is, if it can be reached, and ends the thread."""
        self._leaving.set()
        self._batches.close()

    def add(self, queue: str, message_id: str) -> None:
        """This message is done with."""
        self._batches.add([(queue, message_id)])

    def _tell(self, done: list[tuple[str, str]]) -> None:
        by_queue: dict[str, list[str]] = defaultdict(list)
        for queue, message_id in done:
            by_queue[queue].append(message_id)
        for queue, ids in by_queue.items():
            self._insist(queue, ids)

    def _insist(self, queue: str, ids: Sequence[str]) -> None:
        while True:
            try:
                self._acknowledge(queue, ids)
                return
            except redis.RedisError:
                # The consumers say so in the log.
                if self._leaving.is_set():
                    return
                time.sleep(AGAIN_SECONDS)
