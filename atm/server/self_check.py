"""Whether this server answers: asked from inside, over a socket of its own.

On its ports another process might answer, and a process whose event loop is
stuck looks as if it ran.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
#: A server is given up on when it does not answer within this time, ...
PATIENCE_SECONDS = 2.0
#: ... and once more within this: the first time may have passed while the whole process was stopped.
LAST_SECONDS = 1.0
#: ... but one that has used more than this share of a processor meanwhile is not stuck: it works, and is
#: behind with its calls, as with forty pages of 4 MB on a busy machine. It gets this longer.
BUSY_SHARE = 0.1
BUSY_SECONDS = 7.0
#: How long it may take to tell others. What cannot be told is missed by them soon.
_LEAVE_SECONDS = 3.0
#: The code that a process ends with that gave itself up.
EXIT_CODE = 1
#: No answer from the server itself. Any other code is one, even a refusal.
_SILENCE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_OPTIONS = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50)]


class SelfCheck:
    """Asks the health service at `address()`; calls `give_up` when there is no answer."""

    interval = LOOK_SECONDS

    def __init__(self, address: Callable[[], str], give_up: Callable[[], None]) -> None:
        self._address = address
        self._give_up = give_up

    def run_once(self) -> bool:
        """Asks once, and again for as long as the server is worth it."""
        began, used = time.monotonic(), time.process_time()
        if self._answers(PATIENCE_SECONDS) or self._answers(LAST_SECONDS):
            return False
        share = (time.process_time() - used) / (time.monotonic() - began)
        if share < BUSY_SHARE or not self._answers(BUSY_SECONDS):
            self._give_up()
        return False

    def _answers(self, within: float) -> bool:
        address = self._address()
        if not address:
            return True
        with grpc.insecure_channel(address, options=_OPTIONS) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                stub.Check(health_pb2.HealthCheckRequest(), timeout=within, wait_for_ready=True)
            except grpc.RpcError as error:
                return error.code() not in _SILENCE
        return True


def leave(tell: Callable[[], None], stop_children: Callable[[], None]) -> NoReturn:
    """Ends the process at once, so that whoever started it starts it again.

    `tell` says to the others that this server is gone, in a thread: what it
    needs may be stuck as well. `stop_children` takes as long as it does.
    """
    logger.critical("this server does not answer any more: it leaves and ends with code %d", EXIT_CODE)
    telling = threading.Thread(target=tell, name="atm-leave", daemon=True)
    telling.start()
    telling.join(_LEAVE_SECONDS)
    stop_children()
    os._exit(EXIT_CODE)
