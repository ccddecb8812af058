"""Keeps commands running: one that ends is started again, after a while that grows where it failed."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from atm.processes import EXIT_RECYCLED, UNUSABLE_SETTINGS, python_command

logger = logging.getLogger(__name__)

#: The wait before a command is started again: the first, and the longest.
FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
#: One that has run for this long is well; its next wait is the first again.
WELL_SECONDS = 30.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Command:
    """A process to keep running. `stop_seconds` is what it may take to end by itself; a `umask` of -1 is this
    process's own.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: float = 10.0
    umask: int = -1


class _Child:
    """A command and the process that runs it now."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._backoff = FIRST_BACKOFF_SECONDS
        self._start_at = 0.0
        self._starts = 0
        #: Whether it has ended at its first start because its settings cannot be used.
        self.refused = False

    def look(self) -> None:
        """Starts it if it does not run and its wait is over."""
        now = time.monotonic()
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            self.process = None
            if code == UNUSABLE_SETTINGS and self._starts == 1:
                self.refused = True
                return
            if now - self._started_at >= WELL_SECONDS:
                self._backoff = FIRST_BACKOFF_SECONDS
            if code == EXIT_RECYCLED:
                # It has done its share, and wants to be started anew.
                logger.info("%s ended, as it shall after its share of work; started again", self.command.name)
                self._start_at = now
            else:
                logger.warning(
                    "%s ended (%s); started again in %.1f s", self.command.name, _how(code), self._backoff
                )
                self._start_at = now + self._backoff
                self._backoff = min(MAX_BACKOFF_SECONDS, self._backoff * 2)
        if now >= self._start_at and not self.refused:
            self._start(now)

    def _start(self, now: float) -> None:
        self._started_at = now
        self._starts += 1
        self.process = subprocess.Popen(
            python_command("atm.supervisor.leash", str(os.getpid()), *self.command.arguments),
            env={**os.environ, **self.command.environment},
            stdin=subprocess.DEVNULL,
            # Ctrl-C in a terminal is for the supervisor: it decides in which order to stop.
            start_new_session=True,
            umask=self.command.umask,
        )

    def signal(self, number: int) -> None:
        """Sends a signal, to its whole group if it is SIGKILL."""
        if self.process is None or self.process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within this time."""
        if self.process is None:
            return True
        try:
            self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True


class Supervisor:
    """One thread that keeps all commands running.

    The thread lives as long as the supervisor: its children are bound to it,
    and end with it. `on_refusal` is called when a command refuses its settings
    at its first start: that one is not started again. One that ran before goes
    on being tried, for its handlers' files may be in the middle of a change.
    """

    def __init__(self, commands: Sequence[Command], on_refusal: Callable[[], object] = lambda: None) -> None:
        self._children = [_Child(command) for command in commands]
        self._on_refusal = on_refusal
        self.refusal = ""
        self._held = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="atm-supervisor", daemon=True)

    def start(self) -> None:
        """Starts every command."""
        if self._children:
            self._thread.start()

    def hold(self) -> None:
        """Starts nothing any more: what ends now was told to stop, by whoever told this process."""
        self._held.set()

    def stop(self) -> None:
        """Asks all of them to end, and kills those that take too long."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def pids(self) -> list[int]:
        """The processes that run now."""
        return [child.process.pid for child in self._children if child.process is not None]

    def run_once(self) -> None:
        """One look: starts what does not run, and whose wait is over."""
        if self._held.is_set():
            return
        for child in self._children:
            child.look()
            if child.refused and not self.refusal:
                self.refusal = f"{child.command.name} cannot run with these settings; it says why above"
                self._on_refusal()

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            self.run_once()
        for child in self._children:
            child.signal(signal.SIGTERM)
        end = time.monotonic() + max(child.command.stop_seconds for child in self._children)
        for child in self._children:
            if not child.wait(end - time.monotonic()):
                logger.warning("%s did not stop in time and is killed", child.command.name)
                child.signal(signal.SIGKILL)
                child.wait(5.0)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
