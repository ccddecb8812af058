"""How tasks get their messages: at once if Redis answers, by the relay otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec

from atm.batching.batcher import Batcher
from atm.broker.broker import TaskBroker
from atm.broker.cancel_flags import CancelFlags
from atm.broker.connection import CircuitBreaker
from atm.errors import BrokerUnavailableError
from atm.lists import Hint, TaskList

P = ParamSpec("P")

#: After a failure Redis is left alone for this long. SQL has everything; the relay makes up for it.
_PAUSE_SECONDS = 1.0


class Dispatcher:
    """Tells workers, through Redis, what SQL has already decided. Never raises for a Redis that is gone."""

    def __init__(self, broker: TaskBroker) -> None:
        self._broker = broker
        self._flags = CancelFlags(broker.client, broker.namespace)
        self._breaker = CircuitBreaker("tasks wait in SQL until it is back", _PAUSE_SECONDS)
        self._posts: Batcher[Hint] = Batcher(self.send, name="atm-send")
        #: Has the next attempt of each task queued soon, together with what others post.
        self.post = self._posts.add

    def start(self) -> None:
        """Starts the thread that sends what is posted."""
        self._posts.start()

    def close(self) -> None:
        """Sends what was posted, and ends the thread."""
        self._posts.close()

    def send(self, tasks: Sequence[Hint]) -> None:
        """Queues the next attempt of each task that there is room for, if Redis takes them."""
        self._told(self._broker.send, tasks)

    def relay(self, tasks: Sequence[Hint]) -> list[Hint]:
        """Queues the next attempt of each task, also in lists that were full; those that were queued."""
        try:
            refused = set(self._breaker.call(self._broker.send, tasks, relayed=True))
        except BrokerUnavailableError:
            return []
        return [task for place, task in enumerate(tasks) if place not in refused]

    def room(self, lists: Sequence[TaskList]) -> dict[TaskList, int] | None:
        """Of these lists those that were full, with their room by now; None when Redis did not answer."""
        try:
            return self._breaker.call(self._broker.room, lists)
        except BrokerUnavailableError:
            return None

    def caught_up(self, lists: Sequence[TaskList]) -> None:
        """Has these lists take what comes again: nothing that is due is missing there."""
        self._told(self._broker.caught_up, lists)

    def flag_cancelled(self, task_id: str, requested_by: str) -> bool:
        """Raises the cancel flag of a task; False when Redis did not take it."""
        return self._told(self._flags.set, task_id, requested_by)

    def recover(self) -> bool:
        """Puts back the messages of silent consumers; False when Redis did not answer."""
        return self._told(self._broker.recover)

    def _told(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> bool:
        try:
            self._breaker.call(call, *args, **kwargs)
        except BrokerUnavailableError:
            return False
        return True
