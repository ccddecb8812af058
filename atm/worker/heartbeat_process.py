"""The heartbeat of a worker, from a process of its own, which also tidies up after a sudden death.

A handler can hold Python's lock for minutes, and with it every thread of its
worker. The worker lives nevertheless, and this process says so. It does not
when the worker is stopped (SIGSTOP). When the worker is gone without a word,
it ends the worker's attempts at once, and charges only those that had begun;
where this process died, too, that is left to the scheduler's rescuer.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time

import psutil

from atm.errors import UnavailableError
from atm.service.attempts import AttemptService
from atm.settings import Settings
from atm.store import workers
from atm.store.database import Database
from atm.worker.claim_ledger import ClaimLedger

logger = logging.getLogger(__name__)

#: How often it looks whether the worker is still there, should nobody tell.
_LOOK_SECONDS = 1.0
#: What the worker had sent to the database when it died may still be committed.
_LATE_COMMIT_SECONDS = 1.0


def fork_heartbeat(settings: Settings, worker_id: str, ledger: ClaimLedger) -> None:
    """Forks the process. Call it while the worker has one thread and no connection."""
    worker = os.getpid()
    # Its end is the end of the worker: nothing is ever written, and nobody closes it.
    reader, writer = os.pipe()
    if os.fork() != 0:
        os.close(reader)
        return
    try:
        os.close(writer)
        # A signal to the whole group is for the worker; this one ends after it.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        database = Database(settings.sql_url, pool_size=1)
        _beat_while_alive(database, settings.heartbeat_seconds, worker_id, worker, reader)
        if not ledger.closed:
            _tidy_up(database, worker_id, ledger, settings.worker_lease_seconds)
    except BaseException:
        logger.exception("the heartbeat of %s ended", worker_id)
    finally:
        os._exit(0)


def _beat_while_alive(database: Database, interval: float, worker_id: str, worker: int, end: int) -> None:
    process = psutil.Process(worker)
    beat_at = time.monotonic() + interval
    while os.getppid() == worker:
        # A handler's own child may keep the pipe open: hence also the look at the parent.
        over, _, _ = select.select([end], [], [], min(_LOOK_SECONDS, interval))
        if over:
            return
        if time.monotonic() < beat_at:
            continue
        beat_at = time.monotonic() + interval
        try:
            if process.status() != psutil.STATUS_STOPPED:
                database.write(lambda connection: workers.touch(connection, worker_id, database.clock.now()))
        except (UnavailableError, psutil.NoSuchProcess):
            pass  # the worker itself says so, in its log
        except Exception:
            logger.exception("the heartbeat of %s failed; it goes on", worker_id)


def _tidy_up(database: Database, worker_id: str, ledger: ClaimLedger, lease: float) -> None:
    """Ends what the worker held. After `lease` seconds without SQL the rescuer is faster."""
    until = time.monotonic() + lease
    service = AttemptService(database, worker_id)
    looks = 2
    while looks and time.monotonic() < until:
        try:
            ended = service.end_abandoned(ledger.all())
            if ended:
                logger.warning("worker %s died: its %d attempts are ended", worker_id, ended)
            looks -= 1
            if not looks:
                database.write(lambda connection: workers.remove(connection, worker_id))
                return
        except UnavailableError:
            pass  # once more
        time.sleep(_LATE_COMMIT_SECONDS)
