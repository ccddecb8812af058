"""Takes what waits under the keys of an older version over to those of this one."""

from __future__ import annotations

import logging

from atm.broker.old_layout import OldLayout
from atm.store import waiting
from atm.store.database import Database

logger = logging.getLogger(__name__)

#: How many tasks are taken over in one go.
BATCH = 1000


class CarryOver:
    """Waiting in the lists of the version before → due for the relay, once nobody takes from there any more.

    SQL has the tasks: what is taken over is only that they are due now, not
    when the relay would look at them.
    """

    interval = 5.0

    def __init__(self, database: Database, old: OldLayout) -> None:
        self._database = database
        self._old = old

    def run_once(self) -> bool:
        """One batch; True when there is more. Raises UnavailableError without SQL or Redis."""
        if not self._old.is_there():
            return False
        ids = self._old.waiting(BATCH)
        if not ids:
            self._old.remove()
            return False
        now = self._database.clock.now()
        # An id is that of the task, a colon, and the attempt; whoever wrote it.
        task_ids = [name.partition(b":")[0].decode() for name in ids if name.isascii()]
        self._database.write(lambda connection: waiting.dispatch_now(connection, task_ids, now))
        self._old.forget(ids)
        logger.info("%d messages of an older version were taken over", len(ids))
        return True
