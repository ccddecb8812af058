"""Which server runs the sweeps: the one that holds the lease in Redis."""

from __future__ import annotations

import logging
import time

from atm.broker.lease import Hold, Lease
from atm.errors import BrokerUnavailableError, UnavailableError
from atm.store import servers
from atm.store.database import Database

logger = logging.getLogger(__name__)

#: A leader that is killed or frozen is replaced within this and RENEW_SECONDS, in which the others look.
LEASE_MS = 2000
RENEW_SECONDS = 0.5
#: The holder stops this much before Redis lets another have the lease: clocks drift.
_MARGIN_SECONDS = 0.2


class Leadership:
    """Takes the lead when nobody has it, keeps it while it can, and knows whether it has it.

    Each time that it is taken, an epoch in SQL grows: who leads, and since
    when, can be read there. Without Redis the last leader goes on, if SQL says
    that nobody has followed it. Two leaders at a time would do no harm: every
    sweep is a compare-and-set.
    """

    def __init__(self, database: Database, lease: Lease, instance_id: str) -> None:
        self._database = database
        self._lease = lease
        self._instance_id = instance_id
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
        try:
            hold = self._lease.hold()
        except BrokerUnavailableError:
            hold = Hold.RENEWED if self._was_leader_last() else Hold.REFUSED
        if hold is Hold.REFUSED:
            if self._epoch:
                logger.warning("another server leads now")
            self._epoch = 0
            self._leads_until = float("-inf")
            return False
        # Taken by one that thought it had it: Redis has lost the lease, and
        # others may have led since. Then this is a new epoch, too.
        if hold is Hold.TAKEN or not self._epoch:
            self._epoch = self._take_lead()
        self._leads_until = asked_at + LEASE_MS / 1000 - _MARGIN_SECONDS
        return False

    def _was_leader_last(self) -> bool:
        if not self._epoch:
            return False
        last = self._database.read(servers.leader)
        return last.epoch == self._epoch and last.instance_id == self._instance_id

    def _take_lead(self) -> int:
        epoch = self._database.write(
            lambda connection: servers.take_lead(connection, self._instance_id, self._database.clock.now())
        )
        logger.info("%s leads the servers (epoch %d)", self._instance_id, epoch)
        return epoch

    def hand_over(self) -> None:
        """Gives the lead up: another server has it within RENEW_SECONDS."""
        self._leads_until = float("-inf")
        if not self._epoch:
            return
        self._epoch = 0
        try:
            self._lease.release()
        except UnavailableError as error:
            logger.warning("the lead cannot be handed over (%s); it expires", error)
