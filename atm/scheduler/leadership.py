"""Which server runs the sweeps: the one that holds the lease in SQL."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from atm.errors import UnavailableError
from atm.models import Leader
from atm.store import servers
from atm.store.database import Database

logger = logging.getLogger(__name__)

#: A leader that is killed or frozen is replaced within this and RENEW_SECONDS, in which the others look.
LEASE = timedelta(seconds=2)
RENEW_SECONDS = 0.5
#: The holder stops this much before another may have the lease: each knows the time a little differently.
_MARGIN_SECONDS = 0.2


class Leadership:
    """Takes the lead when nobody has it, keeps it while it can, and knows whether it has it.

    Whoever leads needs SQL, so SQL has the lease, in the database's time. Each
    time that it is taken, an epoch grows: who leads, and since when, can be
    read there. A leader that Redis does not answer (`has_redis`) goes on, but
    any other server that Redis answers may follow it. Two leaders at a time
    would do no harm: every sweep is a compare-and-set.
    """

    def __init__(self, database: Database, instance_id: str, has_redis: Callable[[], bool]) -> None:
        self._database = database
        self._instance_id = instance_id
        self._has_redis = has_redis
        self._leads_until = float("-inf")
        self._epoch = 0

    @property
    def interval(self) -> float:
        """A leader renews half as often as the others look."""
        return 2 * RENEW_SECONDS if self._epoch else RENEW_SECONDS

    def leads(self) -> bool:
        """Whether this server leads at this moment."""
        return time.monotonic() < self._leads_until

    def run_once(self) -> bool:
        """Takes or renews the lease. Raises UnavailableError without SQL, which the leader needs."""
        asked_at = time.monotonic()
        if self._epoch:
            held = self._renew()
        else:
            # A look changes nothing: it costs the others, and SQLite's one writer, next to nothing.
            last = self._database.read(servers.leader)
            held = self._may_follow(last) and self._take_lead(last.epoch + 1)
        self._leads_until = asked_at + LEASE.total_seconds() - _MARGIN_SECONDS if held else float("-inf")
        return False

    def _renew(self) -> bool:
        until = self._database.clock.now() + LEASE
        without_redis = not self._has_redis()
        held = self._database.write(
            lambda connection: servers.renew_lead(
                connection, self._instance_id, self._epoch, until, without_redis=without_redis
            )
        )
        if not held:
            logger.warning("another server leads now")
            self._epoch = 0
        return held

    def _may_follow(self, last: Leader) -> bool:
        now = self._database.clock.now()
        # One that goes on for longer than any lease was given in the time of another database.
        if last.leads_until is None or not now < last.leads_until <= now + 2 * LEASE:
            return True
        return bool(last.without_redis) and self._has_redis()

    def _take_lead(self, epoch: int) -> bool:
        now = self._database.clock.now()
        taken = Leader(
            name="",
            epoch=epoch,
            instance_id=self._instance_id,
            acquired_at=now,
            leads_until=now + LEASE,
            without_redis=not self._has_redis(),
        )
        if not self._database.write(lambda connection: servers.take_lead(connection, taken)):
            return False
        self._epoch = epoch
        logger.info("%s leads the servers (epoch %d)", self._instance_id, epoch)
        return True

    def hand_over(self) -> None:
        """Gives the lead up: another server has it within RENEW_SECONDS."""
        self._leads_until = float("-inf")
        epoch, self._epoch = self._epoch, 0
        if not epoch:
            return
        until = self._database.clock.now()
        try:
            self._database.write(
                lambda connection: servers.renew_lead(
                    connection, self._instance_id, epoch, until, without_redis=True
                )
            )
        except UnavailableError as error:
            logger.warning("the lead cannot be handed over (%s); it expires", error)
