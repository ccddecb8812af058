"""The heartbeat of a worker, from a process of its own, which also sees to the worker's end.

A handler can hold Python's lock for minutes, and with it every thread of its
worker. The worker lives nevertheless, and this process says so. It does not
when the worker is stopped (SIGSTOP). A worker that was told to stop and does
not, or whose parent is gone, it kills. When the worker is gone without a word,
it ends the worker's attempts at once, and charges only those that had begun;
where this process died, too, that is left to the scheduler's rescuer.

It is forked by the worker, or, once that has threads, started by it as
`python -m atm.worker.heartbeat_process READER LEDGER WORKER_ID PID PARENT`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import time
from dataclasses import dataclass

import psutil

from atm.errors import UnavailableError
from atm.service.attempts import AttemptService
from atm.service.outcomes import HandedBack, WorkerLost
from atm.settings import Settings
from atm.store import workers
from atm.store.database import Database
from atm.worker.claim_ledger import ClaimLedger
from atm.worker.orphan_watch import EXIT_SECONDS
from atm.worker.signals import STOPS, ignore_stops

logger = logging.getLogger(__name__)

#: How often it looks whether the worker is still there, should nobody tell.
_LOOK_SECONDS = 1.0
#: What the worker had sent to the database when it died may still be committed.
_LATE_COMMIT_SECONDS = 1.0
#: How long a worker may take to stop beside its drain time. It takes up to four: one until Dramatiq
#: looks, two for handlers that are told, and what is committed last.
STOP_SECONDS = 6.0


@dataclass(frozen=True)
class Watched:
    """A worker: its id, its process, whose child that shall be, and where its signals are told.

    `reader` is the end of a pipe that the worker alone writes to, the number
    of each signal that it gets. It ends with the worker.
    """

    worker_id: str
    pid: int
    parent: int
    reader: int


def watch(settings: Settings, worker: Watched, ledger: ClaimLedger) -> None:
    """Does it, until the worker is gone and its attempts are ended. To be called in the process."""
    try:
        # The worker may be gone before this one was ready.
        ignore_stops()
        database = Database(settings.sql_url, pool_size=1)
        killed = _Watch(settings, worker, database).until_it_ends()
        if not ledger.closed:
            _tidy_up(database, worker.worker_id, ledger, settings.worker_lease_seconds, killed)
    except BaseException:
        logger.exception("the heartbeat of %s ended", worker.worker_id)


class _Watch:
    def __init__(self, settings: Settings, worker: Watched, database: Database) -> None:
        self._worker = worker
        self._database = database
        self._interval = settings.heartbeat_seconds
        self._drain = settings.drain_seconds
        self._kill_at: float | None = None

    def until_it_ends(self) -> bool:
        """Returns when the worker is gone; whether it had to be killed."""
        worker = self._worker
        try:
            process = psutil.Process(worker.pid)
        except psutil.NoSuchProcess:
            return False
        killed, beat_at = False, time.monotonic() + self._interval
        # A handler's own child may keep the pipe open: hence also the look at the parent.
        while os.getppid() == worker.pid:
            told, _, _ = select.select([worker.reader], [], [], min(_LOOK_SECONDS, self._interval))
            if told and not self._hear():
                break
            now = time.monotonic()
            with contextlib.suppress(psutil.Error):
                if process.ppid() != worker.parent:
                    self._kill_after(EXIT_SECONDS)
            if self._kill_at is not None and now >= self._kill_at and not killed:
                logger.warning("worker %s does not stop: it is killed", worker.worker_id)
                process.kill()
                killed = True
            if now >= beat_at and not killed:
                beat_at = now + self._interval
                self._beat(process)
        return killed

    def _hear(self) -> bool:
        """Takes in the signals that the worker got; False when it is gone."""
        signals = os.read(self._worker.reader, 64)
        if any(number in signals for number in STOPS):
            self._kill_after(self._drain + STOP_SECONDS)
        return bool(signals)

    def _kill_after(self, seconds: float) -> None:
        at = time.monotonic() + seconds
        self._kill_at = at if self._kill_at is None else min(at, self._kill_at)

    def _beat(self, process: psutil.Process) -> None:
        database, worker_id = self._database, self._worker.worker_id
        try:
            if process.status() != psutil.STATUS_STOPPED:
                database.write(lambda connection: workers.touch(connection, worker_id, database.clock.now()))
        except (UnavailableError, psutil.NoSuchProcess):
            pass  # the worker itself says so, in its log
        except Exception:
            logger.exception("the heartbeat of %s failed; it goes on", worker_id)


def _tidy_up(database: Database, worker_id: str, ledger: ClaimLedger, lease: float, killed: bool) -> None:
    """Ends what the worker held. After `lease` seconds without SQL the rescuer is faster.

    What ran in one that was `killed` because it did not stop is handed back:
    any worker stops now and then.
    """
    until = time.monotonic() + lease
    service = AttemptService(database, worker_id)
    begun = HandedBack("its worker stopped; the handler did not react") if killed else None
    looks = 2
    while looks and time.monotonic() < until:
        try:
            ended = service.end_abandoned(ledger.all(), begun or WorkerLost("its worker died"))
            if ended:
                logger.warning("worker %s died: its %d attempts are ended", worker_id, ended)
            looks -= 1
            if not looks:
                database.write(lambda connection: workers.remove(connection, worker_id))
                return
        except UnavailableError:
            pass  # once more
        time.sleep(_LATE_COMMIT_SECONDS)


def main() -> None:
    """Watches the worker that has started this process."""
    reader, ledger, worker_id, pid, parent = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    worker = Watched(worker_id, int(pid), int(parent), int(reader))
    watch(Settings.load(), worker, ClaimLedger(int(ledger)))


if __name__ == "__main__":
    main()
