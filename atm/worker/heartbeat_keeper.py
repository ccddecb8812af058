"""Keeps the process running that beats the worker's heart (see heartbeat_process)."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys

from atm.processes import Parent
from atm.settings import Settings
from atm.worker.claim_ledger import ClaimLedger
from atm.worker.heartbeat_process import Watched, watch
from atm.worker.signals import held_back

logger = logging.getLogger(__name__)


class HeartbeatKeeper:
    """A role that starts the process again when it has died alone.

    The first one is forked: that is quick, and shares the worker's memory. A
    process with threads must not fork, so those that follow are started from
    scratch, with the settings and the environment that the worker began with.
    """

    interval = 0.5

    def __init__(self, settings: Settings, worker_id: str, ledger: ClaimLedger, parent: Parent) -> None:
        self._settings = settings
        self._ledger = ledger
        self._environment = {**os.environ, **settings.environment()}
        # Nobody else writes to it, and its end is the end of the worker, so nobody closes it.
        reader, self._writer = os.pipe()
        self._watched = Watched(worker_id, os.getpid(), parent.nearest, reader)
        self._told_to_stop = False
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def fork(self) -> None:
        """The first process. Call it in the main thread, while there is no other, and no connection."""
        with held_back():
            self._pid = os.fork()
            if self._pid == 0:
                try:
                    os.close(self._writer)
                    watch(self._settings, self._watched, self._ledger)
                finally:
                    os._exit(0)
        # Python writes each signal to it when it comes, whoever holds its lock.
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def run_once(self) -> bool:
        """One look."""
        if self._has_ended():
            logger.warning("the process that beats this worker's heart has died: it is started again")
            self._start()
        return False

    def stops(self) -> None:
        """The worker stops: a process that is started now is told so."""
        self._told_to_stop = True

    def _has_ended(self) -> bool:
        if self._process is not None:
            return self._process.poll() is not None
        try:
            return os.waitpid(self._pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True  # a handler has waited for it

    def _start(self) -> None:
        worker, fds = self._watched, (self._watched.reader, self._ledger.fd)
        told = (*fds, worker.worker_id, worker.pid, worker.parent)
        with held_back():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "atm.worker.heartbeat_process", *map(str, told)],
                env=self._environment,
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
            )
        if self._told_to_stop:
            # What the one before has heard died with it.
            os.write(self._writer, bytes([signal.SIGTERM]))
