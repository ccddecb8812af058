"""Gives tasks the message that they miss: retries that are due, and what Redis lost or never got."""

from __future__ import annotations

from datetime import timedelta

from atm.service.dispatch import Dispatcher
from atm.store import tasks
from atm.store.database import Database

#: How many tasks get their message in one sweep.
BATCH = 500
#: When a task that got its message is looked at again: after as long as it has
#: waited, within these bounds, so that a long queue is not sent again and again.
#: A message that is still queued is not queued twice: its id is the attempt's.
AGAIN = timedelta(seconds=30)
AGAIN_LATEST = timedelta(minutes=10)


class Relay:
    """Committed but not queued → queued."""

    def __init__(self, database: Database, dispatcher: Dispatcher, interval: float) -> None:
        self.interval = interval
        self._database = database
        self._dispatcher = dispatcher

    def run_once(self) -> bool:
        """Queues what is due; True when there is more."""
        clock = self._database.clock
        due, waited = self._database.read(
            lambda connection: tasks.due_for_dispatch(connection, clock.now(), BATCH)
        )
        if not due or not self._dispatcher.send(due):
            return False
        wait = min(max(AGAIN, waited), AGAIN_LATEST)
        self._database.write(lambda connection: tasks.postpone_dispatch(connection, due, clock.now(), wait))
        return len(due) == BATCH
