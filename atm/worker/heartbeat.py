"""The heartbeat of a worker, from a process of its own.

A handler can hold Python's lock for minutes, and with it every thread of its
worker. The worker lives nevertheless, and this process says so. It does not
when the worker is stopped (SIGSTOP) or gone.
"""

from __future__ import annotations

import logging
import os
import signal
import time

import psutil

from atm.errors import UnavailableError
from atm.models import now
from atm.processes import die_with_parent
from atm.settings import Settings
from atm.store import workers
from atm.store.database import Database

logger = logging.getLogger(__name__)


def fork_heartbeat(settings: Settings, worker_id: str) -> None:
    """Forks the process. Call it while the worker has one thread and no connection."""
    worker = os.getpid()
    if os.fork() != 0:
        return
    try:
        # A signal to the whole group is for the worker; this one ends with it.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        die_with_parent()
        _beat_while_alive(settings, worker_id, worker)
    finally:
        os._exit(0)


def _beat_while_alive(settings: Settings, worker_id: str, worker: int) -> None:
    database = Database(settings.sql_url, pool_size=1)
    process = psutil.Process(worker)
    while os.getppid() == worker:
        time.sleep(settings.heartbeat_seconds)
        if process.status() == psutil.STATUS_STOPPED:
            continue
        try:
            database.write(lambda connection: workers.touch(connection, worker_id, now()))
        except UnavailableError:
            pass  # the worker itself says so, in its log
        except Exception:
            logger.exception("the heartbeat of %s failed; it goes on", worker_id)
