"""Deletes tasks that ended long ago, and their histories."""

from __future__ import annotations

import time
from datetime import timedelta

from atm.store import tasks
from atm.store.database import Database

#: Small, so that nobody waits for a lock: one transaction takes milliseconds.
CHUNK = 200
#: After a chunk this many times as long as it took is left to others.
REST = 3


class Pruner:
    """Finished for longer than the retention → gone."""

    interval = 5.0

    def __init__(self, database: Database, retention_seconds: float) -> None:
        self._database = database
        self._retention = timedelta(seconds=retention_seconds)

    def run_once(self) -> bool:
        """Deletes one chunk; True when there may be more."""
        before, began = self._database.clock.now() - self._retention, time.monotonic()
        deleted = self._database.write(lambda connection: tasks.prune(connection, before, CHUNK))
        if deleted < CHUNK:
            return False
        time.sleep(REST * (time.monotonic() - began))
        return True
