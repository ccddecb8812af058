"""Notices that Redis lost what it held, and has every task that waits queued again."""

from __future__ import annotations

import logging

from atm.broker.marker import Marker
from atm.errors import BrokerUnavailableError
from atm.store import waiting
from atm.store.database import Database

logger = logging.getLogger(__name__)

#: How many tasks are put up for the relay in one statement.
BATCH = 5000


class DataLossDetector:
    """Redis restarted, flushed, or another one after a failover → everything due is queued again.

    A message that is still there is not queued twice, so a false alarm costs
    some work and no more.
    """

    interval = 1.0

    def __init__(self, database: Database, marker: Marker) -> None:
        self._database = database
        self._marker = marker
        self._behind: str | None = None

    def run_once(self) -> bool:
        """Looks at Redis; True while there are more tasks to put up."""
        if self._behind is None and not self._lost():
            return False
        if self._behind is None:
            self._behind = ""
        after = self._behind
        now = self._database.clock.now()
        last = self._database.write(lambda connection: waiting.dispatch_again(connection, now, after, BATCH))
        self._behind = last
        return last is not None

    def _lost(self) -> bool:
        first_look = self._marker.is_first_look
        try:
            what = self._marker.lost()
        except BrokerUnavailableError:
            return False
        if what:
            # On the first day of an installation it is empty.
            level = logging.INFO if first_look else logging.WARNING
            logger.log(level, "Redis %s: tasks that wait are queued again", what)
        return bool(what)
