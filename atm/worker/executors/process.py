"""Handlers in a process of their own: the only kind that can be stopped for certain."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from atm.errors import NonRetryableError
from atm.processes import python_command
from atm.worker.attempt import Attempt
from atm.worker.interruption import Interruption, Stopped
from atm.worker.payloads import ResultError
from atm.worker.signals import held_back

#: How long the process may take to stop by itself before it is killed.
KILL_SECONDS = 1.0
_CHILD = "atm.worker.executors.child"


class ChildError(Exception):
    """What the handler raised, told by its process. Its own traceback is in `traceback`."""

    def __init__(self, description: str, traceback: str) -> None:
        super().__init__(description)
        self.description = description
        self.traceback = traceback


class NonRetryableChildError(ChildError, NonRetryableError):
    """The same, for an error that forbids a retry."""


class ChildDiedError(Exception):
    """The process ended without an answer: the handler exited, crashed or was killed."""


class _ProcessHandle:
    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self._process = process
        self._channel = channel
        self._told = False
        self.killed = False

    def press(self, interruption: Interruption, elapsed: float) -> None:
        """Tells the process; kills it and all that it started when it goes on."""
        if not self._told:
            self._told = True
            message = {"kind": interruption.kind, "requested_by": interruption.requested_by}
            try:
                # A few bytes: they fit into the socket's buffer.
                self._channel.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                return  # it has ended already
        if elapsed >= KILL_SECONDS and not self.killed:
            self.killed = True
            kill_group(self._process)


class ProcessExecutor:
    """Runs each attempt in a new process, with `environment` beside this one's own."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment

    def run(self, attempt: Attempt, payload: Any) -> Any:
        """See `Executor`. `payload` was only checked here; the child binds it again."""
        ours, theirs = socket.socketpair()
        with ours:
            process = _start(theirs, self._environment)
            try:
                return self._converse(attempt, process, ours)
            finally:
                attempt.handle = None
                # It may have started others, or hang in its own clean-up.
                kill_group(process)
                process.wait()

    def _converse(self, attempt: Attempt, process: subprocess.Popen[bytes], channel: socket.socket) -> Any:
        ours = channel.makefile("rb")
        order = {**asdict(attempt.task), "started_at": attempt.task.started_at.isoformat()}
        with contextlib.suppress(OSError):  # it died at once: told below
            channel.sendall(json.dumps(order).encode() + b"\n")
        handle = _ProcessHandle(process, channel)
        attempt.handle = handle
        answer: dict[str, Any] | None = None
        while answer is None:
            try:
                line = ours.readline()
            except OSError:
                line = b""
            if not line:
                break
            answer = _take(attempt, json.loads(line))
        if answer is None:
            return self._died(process, handle)
        if "result" in answer:
            return answer["result"]
        if "stopped" in answer:
            raise Stopped(f"{answer['stopped']} (in its own process)")
        if "invalid_result" in answer:
            raise ResultError(answer["invalid_result"])
        kind = ChildError if answer["retryable"] else NonRetryableChildError
        raise kind(answer["error"], answer["traceback"])

    def _died(self, process: subprocess.Popen[bytes], handle: _ProcessHandle) -> Any:
        code = process.wait()
        if handle.killed:
            raise Stopped("its process was killed")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise ChildDiedError(f"the handler's process died: {how}")

    def close(self) -> None:
        """Nothing to close."""


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills a process that leads its own group, and whatever it has started in it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        # macOS answers so when only zombies are left of the group.
        pass


def _start(channel: socket.socket, environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    with channel, held_back():
        return subprocess.Popen(
            python_command(_CHILD, str(channel.fileno())),
            env=None if environment is None else {**os.environ, **environment},
            pass_fds=[channel.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def _take(attempt: Attempt, message: dict[str, Any]) -> dict[str, Any] | None:
    """Passes on what the handler said; the message itself when it is the last."""
    match message:
        case {"line": text}:
            attempt.log.line(text)
        case {"progress": fraction, "message": text}:
            attempt.log.progress(fraction, text)
        case _:
            return message
    return None
