"""Tells Redis of messages that are done with, by the batch, and holds on to what it could not be told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis

from atm.batching.batcher import Batcher

logger = logging.getLogger(__name__)

#: Between two tries to reach a Redis that is gone.
AGAIN_SECONDS = 0.5


@dataclass(frozen=True)
class Done:
    """A message that is done with, and the task that ended by it, if one did."""

    queue: str
    message_id: str
    ended_task: str = ""


class Acknowledger:
    """Takes what is done from any thread.

    What Redis could not be told before `close` is told by nobody: the message
    is delivered again then, and refused, because SQL has what it did.
    """

    def __init__(self, acknowledge: Callable[[Sequence[Done]], None]) -> None:
        self._acknowledge = acknowledge
        self._leaving = threading.Event()
        self._batches: Batcher[Done] = Batcher(self._insist, name="atm-acknowledge")

    def start(self) -> None:
        """Starts the thread."""
        self._batches.start()

    def close(self) -> None:
        """Tells Redis what there is, if it can be reached, and ends the thread."""
        self._leaving.set()
        self._batches.close()

    def add(self, done: Done) -> None:
        """This message is done with."""
        self._batches.add([done])

    def _insist(self, done: Sequence[Done]) -> None:
        while True:
            try:
                self._acknowledge(done)
                return
            except redis.RedisError:
                # The consumers say so in the log.
                if self._leaving.wait(AGAIN_SECONDS):
                    return
