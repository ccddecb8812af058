"""Gives tasks the message that they miss: retries that are due, and what Redis lost or never got."""

from __future__ import annotations

from datetime import datetime, timedelta

from atm.service.dispatch import Dispatcher
from atm.store import waiting
from atm.store.database import Connection, Database
from atm.store.waiting import Dispatch, Due, TaskList

#: How many tasks get their message in one sweep, about: as many of each list, where several are due.
BATCH = 500
#: When a task that got its message is looked at again: after as long as it has
#: waited, within these bounds, so that a long queue is not sent again and again.
#: A message that is still queued is not queued twice: its id is the attempt's.
AGAIN = timedelta(seconds=30)
AGAIN_LATEST = timedelta(minutes=10)
_PRIORITIES = (1, 0)


class Relay:
    """Committed but not queued → queued."""

    def __init__(self, database: Database, dispatcher: Dispatcher, interval: float) -> None:
        self.interval = interval
        self._database = database
        self._dispatcher = dispatcher

    def run_once(self) -> bool:
        """Queues what is due; True when there is more."""
        clock = self._database.clock
        now = clock.now()
        found, more = self._database.read(lambda connection: _due(connection, now))
        due = [item.dispatch for item in found]
        if not due or not self._dispatcher.send(due):
            return False
        waited = now - max(item.due_at for item in found)
        wait = min(max(AGAIN, waited), AGAIN_LATEST)
        self._database.write(lambda connection: waiting.postpone_dispatch(connection, due, clock.now(), wait))
        return more


def _due(connection: Connection, now: datetime) -> tuple[list[Due], bool]:
    """What is due in all lists, and whether there may be more."""
    lists = [TaskList(name, n) for name in waiting.task_types(connection) for n in _PRIORITIES]
    # Nearly always nothing: one look at the head of each list.
    heads = waiting.due(connection, lists, now, now, 1)
    if not heads:
        return [], False
    lists = list(dict.fromkeys(_list_of(item.dispatch) for item in heads))
    each = max(1, BATCH // len(lists))
    found = waiting.due(connection, lists, now, now, each)
    return found, len(found) >= each


def _list_of(task: Dispatch) -> TaskList:
    return TaskList(task.task_type, task.priority)
