"""The process of one attempt: `python -m atm.worker.executors.child FD`.

It reads its order from a socket, runs the handler as a worker's thread would,
and answers line by line in JSON. When its worker dies, so does it.
"""

from __future__ import annotations

import contextvars
import json
import os
import signal
import socket
import sys
import threading
import time
from datetime import datetime
from typing import Any

from atm import logs
from atm.errors import NonRetryableError
from atm.processes import die_with_parent
from atm.service.attempts import ClaimedTask
from atm.settings import Settings
from atm.store.logs import clip
from atm.worker import handlers
from atm.worker.attempt import Attempt, AttemptId
from atm.worker.executors.coroutine import CoroutineExecutor
from atm.worker.executors.thread import ThreadExecutor
from atm.worker.interruption import Kind, Stopped
from atm.worker.log_buffer import LogBuffer
from atm.worker.output import use_in_child
from atm.worker.payloads import ResultError, bind, encode_result
from atm.worker.signals import ignore_stops
from atm.worker.texts import name_of, plain, text_of, traceback_of

_WATCH_SECONDS = 0.05


class _Channel:
    """The socket to the worker; lines go out whole."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._file = self._socket.makefile("rb")
        self._lock = threading.Lock()

    def receive(self) -> dict[str, Any] | None:
        line = self._file.readline()
        return json.loads(line) if line else None

    def send(self, message: dict[str, Any]) -> None:
        with self._lock:
            self._socket.sendall(json.dumps(message).encode() + b"\n")


class _RemoteLog(LogBuffer):
    """Passes what may be kept on at once; the worker stores it."""

    def __init__(self, channel: _Channel) -> None:
        super().__init__()
        self._channel = channel

    def line(self, message: str) -> bool:
        is_kept = super().line(message)
        for line in self.take().lines:
            self._channel.send({"line": line.message})
        return is_kept

    def progress(self, fraction: float, message: str) -> None:
        self._channel.send({"progress": fraction, "message": clip(plain(message))})


def _listen(channel: _Channel, attempt: Attempt) -> None:
    """Waits for the word to stop, then stops the handler, again and again."""
    order = channel.receive()
    if order is None:
        # The worker is gone: nobody waits for this attempt.
        os.killpg(0, signal.SIGKILL)
        return
    attempt.interrupt(Kind(order["kind"]), order["requested_by"])
    while True:
        attempt.press()
        time.sleep(_WATCH_SECONDS)


def _attempt_of(order: dict[str, Any], channel: _Channel) -> Attempt:
    spec = handlers.load(Settings.load().handlers).get(order["task_type"])
    if spec is None:
        raise NonRetryableError(f"no handler for {order['task_type']!r} in the new process")
    started_at = datetime.fromisoformat(order["started_at"])
    # The worker sees to the time that it may take.
    task = ClaimedTask(**{**order, "timeout_ms": 0, "started_at": started_at})
    attempt = Attempt(AttemptId(task.task_id, task.attempt))
    attempt.prepare(task, _RemoteLog(channel))
    attempt.spec = spec
    return attempt


def _run(channel: _Channel, order: dict[str, Any]) -> dict[str, Any]:
    """The answer: a result, a stop, or an error."""
    try:
        attempt = _attempt_of(order, channel)
        threading.Thread(target=_listen, args=(channel, attempt), daemon=True).start()
        # In a context of its own, as in a worker's thread: modules that it imported may have set something.
        return {"result": contextvars.Context().run(_result_of, attempt)}
    except Stopped as stop:
        return {"stopped": stop.how}
    except ResultError as error:
        return {"invalid_result": str(error)}
    except BaseException as error:  # noqa: BLE001 - whatever it is, the worker is told
        return {
            "error": f"{name_of(error)}: {text_of(error)}",
            "traceback": traceback_of(error),
            "retryable": not issubclass(type(error), NonRetryableError),
        }


def _result_of(attempt: Attempt) -> dict[str, str]:
    payload = bind(attempt.task.payload, attempt.spec.payload_model)
    executor = CoroutineExecutor() if attempt.spec.is_async else ThreadExecutor()
    return encode_result(executor.run(attempt, payload))


def main() -> None:
    """Runs the attempt that the worker orders."""
    # A signal to all processes of the worker is the worker's: it tells this one when to stop.
    ignore_stops()
    die_with_parent()
    streams = use_in_child()
    logs.make_visible()
    channel = _Channel(int(sys.argv[1]))
    order = channel.receive()
    if order is not None:
        channel.send(_run(channel, order))
    for stream in streams:
        stream.close()
    # Threads and exit handlers of the user's code have had their say.
    os._exit(0)


if __name__ == "__main__":
    main()
