"""Where a worker's attempts come from: messages in Redis, and what is due in SQL when Redis does not help.

Redis makes ATM fast; it is not needed to go on. What is taken from SQL has no
message and goes the same way as everything else: its claim decides whose it
is. What Redis still has of it is out of date then, and dropped.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter

from atm.broker import keys
from atm.broker.broker import HIGH_PER_NORMAL, TaskBroker
from atm.errors import BrokerUnavailableError, UnavailableError
from atm.lists import PRIORITIES, Hint, TaskList, lists_of
from atm.store import waiting
from atm.store.database import Database
from atm.worker.attempt import Attempt, AttemptId, Attempts
from atm.worker.redis_watch import RedisWatch

#: Without Redis a process with nothing to do looks this often, in seconds, for what is due.
_LOOK_SECONDS = 0.05
#: ... or so many times as seldom as a look takes: SQL has other work.
_LOOK_SHARE = 10
#: While Redis is well one looks this often, in seconds, for tasks whose message has been missing for longer
#: than OVERDUE: the relay has not seen to it.
_OVERDUE_LOOK_SECONDS = 1.0
OVERDUE = timedelta(seconds=1)
#: Later than the relay puts off any task that is due, whatever the clocks.
_LATEST = waiting.AGAIN_LATEST + timedelta(minutes=5)
#: For how long what was found is good enough to take more from.
_FRESH_SECONDS = 0.1
#: It takes some at random of so many times as many as it wants: others take from the same ones.
_SPREAD = 4


class Sources:
    """Finds attempts for a worker process with handlers for `task_types`. Used by one thread at a time."""

    def __init__(
        self, broker: TaskBroker, database: Database, attempts: Attempts, task_types: Sequence[str]
    ) -> None:
        self._broker = broker
        self._database = database
        self._attempts = attempts
        self._task_types = task_types
        self.watch = RedisWatch(broker, self.say_that_it_lives)
        self._queues: list[str] = []
        self._lists: list[TaskList] = []
        # How many High ones were taken in a row.
        self._streak = 0
        # What SQL had that was due, and when it was asked; some of it was not taken yet.
        self._found: list[Hint] = []
        self._looked_at = float("-inf")
        # How long SQL took to answer.
        self._look_took = 0.0

    def add_queue(self, queue: str) -> bool:
        """From now on attempts of this queue are found, too; whether it is the first one."""
        if queue not in self._queues:
            self._queues.append(queue)
            self._lists = [
                of for of in lists_of(self._task_types) if keys.queue_of(of.priority) in self._queues
            ]
        return self._queues[0] == queue

    def take(self, wanted: int) -> list[Attempt]:
        """Up to so many attempts, most urgent first; none where there are none at this moment."""
        if self.watch.gives:
            try:
                self._streak, found = self._broker.fetch(self._lists, wanted, self._streak)
            except BrokerUnavailableError as error:
                self.watch.lost(error)
            else:
                if found:
                    return [Attempt(AttemptId(*item.message.args), item) for item in found]
        return self._from_sql(wanted)

    def wait(self, seconds: float) -> None:
        """Returns when there may be something to take, or after `seconds`."""
        if not self._is_well():
            time.sleep(min(seconds, max(_LOOK_SECONDS, _LOOK_SHARE * self._look_took)))
            return
        try:
            self._broker.wait(self._lists, seconds)
        except BrokerUnavailableError as error:
            self.watch.lost(error)

    def say_that_it_lives(self) -> None:
        """Tells Redis so: otherwise what this process has fetched goes to others.

        Raises BrokerUnavailableError.
        """
        self._broker.fetch(self._lists, 0, 0)

    def _is_well(self) -> bool:
        return self.watch.gives and self.watch.takes

    def _from_sql(self, wanted: int) -> list[Attempt]:
        now, is_well = self._database.clock.now(), self._is_well()
        if is_well and time.monotonic() - self._looked_at < _OVERDUE_LOOK_SECONDS:
            return []
        if len(self._found) < wanted or time.monotonic() - self._looked_at >= _FRESH_SECONDS:
            self._looked_at = time.monotonic()
            self._found = self._look(now - OVERDUE if is_well else now + _LATEST, now, wanted)
        return [Attempt(AttemptId(task.task_id, task.attempt), of=task.of) for task in self._chosen(wanted)]

    def _look(self, dispatch_by: datetime, now: datetime, wanted: int) -> list[Hint]:
        """What is due and not here yet, some times as many as are wanted."""
        look = partial(
            waiting.due, lists=self._lists, now=now, dispatch_by=dispatch_by, limit=wanted * _SPREAD
        )
        began = time.monotonic()
        try:
            found = [item.hint for item in self._database.read(look)]
            self._look_took = time.monotonic() - began
        except UnavailableError:
            # It is said by whoever claims. Nothing can be.
            return []
        known = self._attempts.known()
        return [task for task in found if AttemptId(task.task_id, task.attempt) not in known]

    def _chosen(self, wanted: int) -> list[Hint]:
        """Takes some out of what was found: High before Normal but for each ninth, the oldest first."""
        by_age = attrgetter("task_id")
        chosen: list[Hint] = []
        # The oldest ones of each are looked at, and of these any.
        some = [
            sorted((task for task in self._found if task.of.priority == n), key=by_age)[: wanted * _SPREAD]
            for n in PRIORITIES
        ]
        high, normal = (sorted(random.sample(of, min(wanted, len(of))), key=by_age) for of in some)
        while len(chosen) < wanted and (high or normal):
            is_normal = bool(normal) and (not high or self._streak >= HIGH_PER_NORMAL)
            self._streak = 0 if is_normal else self._streak + 1
            chosen.append((normal if is_normal else high).pop(0))
        taken = set(chosen)
        self._found = [task for task in self._found if task not in taken]
        return chosen
