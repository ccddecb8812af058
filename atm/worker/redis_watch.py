"""What Redis does for a worker: whether it gives out messages, and whether it takes new ones."""

from __future__ import annotations

import logging
from collections.abc import Callable

from atm.broker.broker import TaskBroker
from atm.errors import BrokerUnavailableError

logger = logging.getLogger(__name__)

#: How often it is looked whether Redis is back, and whether it still is what it was, in seconds.
_AWAY_SECONDS, _LOOK_SECONDS = 0.25, 1.0


class RedisWatch:
    """A role that looks at Redis, so that nobody who needs it waits for one that does not answer.

    `gives`: Redis gives out messages. `takes`: it can be written to, so that
    what servers queue comes to it; a full one may give and not take.
    `speak` is what a worker says to Redis anyway.
    """

    def __init__(self, broker: TaskBroker, speak: Callable[[], object]) -> None:
        self._broker = broker
        self._speak = speak
        self.gives = True
        self.takes = True
        self._fault = ""

    @property
    def interval(self) -> float:
        """The seconds until the next look."""
        return _LOOK_SECONDS if self.gives else _AWAY_SECONDS

    def run_once(self) -> bool:
        """One look."""
        fault = ""
        try:
            self._speak()
        except BrokerUnavailableError as error:
            self.gives, fault = False, str(error)
        else:
            self.gives = True
            try:
                self._broker.probe()
                self.takes = True
            except BrokerUnavailableError as error:
                self.takes, fault = False, str(error)
        self._tell(fault)
        return False

    def lost(self, error: BrokerUnavailableError) -> None:
        """Redis did not give what it was asked for: it is left alone until a look finds it well."""
        self.gives = False
        self._tell(str(error))

    def _tell(self, fault: str) -> None:
        if bool(fault) == bool(self._fault):
            return
        self._fault = fault
        if fault:
            logger.warning("%s; tasks that are due are taken from SQL meanwhile", fault)
        else:
            logger.info("Redis can be used again")
