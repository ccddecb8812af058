"""Who is let in: how many calls and waits, and how many bytes of them, a server process has in hand.

gRPC turns bursts away with CANCELLED, or without a word on when to come back;
so its own limits are set aside, and whoever is one too many is answered here,
before its request is decoded: RESOURCE_EXHAUSTED with a RetryInfo. What waits
has a limit of its own, so that those who wait lock nobody out. Whether the
server is healthy may always be asked.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from grpc_health.v1 import health

from atm.errors import ExhaustedError
from atm.logs import Occasionally
from atm.rpc import task_service_pb2 as pb

logger = logging.getLogger(__name__)

#: When a caller that is turned away should come back.
_RETRY_SECONDS = 1.0
_LOG_SECONDS = 60.0
_WAIT_TASK = f"/{pb.DESCRIPTOR.services_by_name['TaskService'].full_name}/WaitTask"
_HEALTH = f"/{health.SERVICE_NAME}/"

#: A request of so many bytes or fewer is bounded by the number of calls alone.
LIGHT_BYTES = 16 * 1024
#: What a request costs while it is worked on, in its own bytes: as it came, decoded, as a row, as the answer.
REQUEST_FACTOR = 4


class Gate:
    """Lets in up to `most` at a time; `setting` names that limit. Only for use on the event loop."""

    def __init__(self, most: int, what: str, setting: str) -> None:
        self._most = most
        self._what = what
        self._setting = setting
        self._says = Occasionally(_LOG_SECONDS)
        #: How many are in.
        self.inside = 0

    def __enter__(self) -> None:
        """Lets one in. Raises ExhaustedError."""
        if self.inside >= self._most:
            raise _refusal(f"{self._most} {self._what} at a time", self._setting, self._says)
        self.inside += 1

    def __exit__(self, *_error: object) -> None:
        """One of those that were let in has ended."""
        self.inside -= 1


class Memory:
    """Bounds the bytes of requests that wait and of answers that are made or sent; for any thread.

    What is held for a call is given back when gRPC is done with it: also its
    answer may wait, for a client that reads slowly.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._says = Occasionally(_LOG_SECONDS)
        #: How many bytes are held.
        self.held = 0

    def hold(self, context: Any, size: int) -> None:
        """Holds so many bytes until the call is over. For the event loop. Raises ExhaustedError."""
        self._take(size)
        context.add_done_callback(lambda _context: self._give_back(size))

    def holder(self, context: Any, loop: Any) -> Callable[[int], None]:
        """The same for other threads, with the call given; what is light is not counted."""
        return partial(self._hold_from_thread, context, loop)

    def _hold_from_thread(self, context: Any, loop: Any, size: int) -> None:
        if size <= LIGHT_BYTES:
            return
        self._take(size)
        loop.call_soon_threadsafe(self._give_back_when_done, context, size)

    def _give_back_when_done(self, context: Any, size: int) -> None:
        if context.done():
            self._give_back(size)
        else:
            context.add_done_callback(lambda _context: self._give_back(size))

    def _take(self, size: int) -> None:
        with self._lock:
            if self.held + size > self._most:
                what = f"{self._most >> 20} MiB of requests and answers at a time"
                raise _refusal(what, "ATM_MAX_CALL_MEMORY_MB", self._says)
            self.held += size

    def _give_back(self, size: int) -> None:
        with self._lock:
            self.held -= size


def _refusal(what: str, setting: str, says: Occasionally) -> ExhaustedError:
    if count := says.count():
        logger.warning("%d calls were turned away: the limit is %s (%s)", count, what, setting)
    return ExhaustedError(
        f"this server takes {what}: come back later",
        reason="TOO_BUSY",
        metadata={"limit": setting},
        retry_after=_RETRY_SECONDS,
    )


class Admission:
    """All limits of a server process: numbers of `calls` and `waits`, and `memory` in bytes."""

    def __init__(self, *, calls: int, waits: int, memory: int) -> None:
        self.calls = Gate(calls, "calls", "ATM_MAX_CALLS_IN_FLIGHT")
        self.waits = Gate(waits, "calls that wait", "ATM_MAX_WAITS")
        # Beside those who wait for tasks, and apart from them.
        self._watches = Gate(waits, "watches of its health", "ATM_MAX_WAITS")
        self._open = Gate(sys.maxsize, "questions of its health", "")
        self.memory = Memory(memory)

    def gate(self, path: str, *, streams: bool) -> Gate:
        """What a method's calls come in by; `streams`: they may last."""
        if path.startswith(_HEALTH):
            return self._watches if streams else self._open
        return self.waits if streams or path == _WAIT_TASK else self.calls
