"""A dispatcher without Redis: it remembers what was sent, and fails when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atm.lists import Hint, TaskList
from atm.service.dispatch import Dispatcher


class FakeDispatcher(Dispatcher):
    """`sent` holds each sending. While `works` is False, nothing gets through."""

    def __init__(self) -> None:
        self.works = True
        self.sent: list[list[Hint]] = []
        #: The lists that were full, with their room.
        self.rooms: dict[TaskList, int] = {}
        self.recoveries = 0
        #: Done while a sending is under way.
        self.meanwhile: Callable[[], object] = lambda: None

    def send(self, tasks: Sequence[Hint]) -> None:
        self.relay(tasks)

    def relay(self, tasks: Sequence[Hint]) -> list[Hint]:
        self.meanwhile()
        if not self.works or not tasks:
            return []
        queued = [task for task in tasks if self.rooms.get(task.of, 1) > 0]
        self.sent.append(queued)
        return queued

    def room(self, lists: Sequence[TaskList]) -> dict[TaskList, int] | None:
        return dict(self.rooms) if self.works else None

    def caught_up(self, lists: Sequence[TaskList]) -> None:
        for of in lists:
            del self.rooms[of]

    def recover(self) -> bool:
        self.recoveries += 1
        return self.works
