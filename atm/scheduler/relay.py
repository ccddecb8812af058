"""Gives tasks the message that they miss: retries that are due, and what Redis lost or never got."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from atm.lists import TaskList, list_for
from atm.service.dispatch import Dispatcher
from atm.store import waiting
from atm.store.database import Database
from atm.store.waiting import AGAIN_LATEST, Due

#: How many tasks get their message in one sweep, about: as many of each list, where several are due.
BATCH = 500
#: When a task that got its message is looked at again: after as long as it has
#: waited, between this and AGAIN_LATEST, so that a long queue is not sent again and again.
#: A message that is still queued is not queued twice: its id is the attempt's.
AGAIN = timedelta(seconds=30)
#: How often it is looked which types there are: the first task of a new one is sent by whoever creates it.
_LISTED_SECONDS = 1.0
#: ... and how many times as long as that takes it is left alone then: there may be thousands of types.
_LISTED_SHARE = 20
#: A list that was full gets more when it has room for this part of what it holds.
_ROOM = 4


class Relay:
    """Committed but not queued → queued. A list of `limit` messages is full; what is more waits in SQL."""

    def __init__(self, database: Database, dispatcher: Dispatcher, interval: float, limit: int) -> None:
        self.interval = interval
        self._database = database
        self._dispatcher = dispatcher
        self._enough_room = limit / _ROOM
        self._lists: list[TaskList] = []
        self._list_again_at = float("-inf")

    def run_once(self) -> bool:
        """Queues what is due; True when there is more."""
        clock = self._database.clock
        now = clock.now()
        lists = self._all_lists()
        rooms = self._dispatcher.room([list_for(*of) for of in lists])
        if rooms is None:
            return False
        full = {of for of, room in rooms.items() if room < self._enough_room}
        found, more = self._due([of for of in lists if list_for(*of) not in full], now)
        due_in = {item.hint.of for item in found}
        self._dispatcher.caught_up([of for of in rooms if of not in full | due_in])
        queued = self._dispatcher.relay([item.hint for item in found])
        if not queued:
            return False
        waited = now - max(item.due_at for item in found)
        wait = min(max(AGAIN, waited), AGAIN_LATEST)
        self._database.write(
            lambda connection: waiting.postpone_dispatch(connection, queued, clock.now(), wait)
        )
        return more

    def _all_lists(self) -> list[TaskList]:
        began = time.monotonic()
        if began >= self._list_again_at:
            self._lists = self._database.read(waiting.task_lists)
            took = time.monotonic() - began
            self._list_again_at = began + max(_LISTED_SECONDS, _LISTED_SHARE * took)
        return self._lists

    def _due(self, lists: Sequence[TaskList], now: datetime) -> tuple[list[Due], bool]:
        """What is due in these lists, and whether there may be more."""

        def look(lists: Sequence[TaskList], each: int) -> list[Due]:
            return self._database.read(lambda connection: waiting.due(connection, lists, now, now, each))

        # Nearly always nothing: one look at the head of each list.
        lists = list(dict.fromkeys(item.found_in for item in look(lists, 1)))
        if not lists:
            return [], False
        each = max(1, BATCH // len(lists))
        found = look(lists, each)
        return found, len(found) >= each
