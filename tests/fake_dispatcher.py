"""A dispatcher without Redis: it remembers what was sent, and fails when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atm.service.dispatch import Dispatcher
from atm.store.waiting import Dispatch


class FakeDispatcher(Dispatcher):
    """`sent` holds each sending. While `works` is False, nothing gets through."""

    def __init__(self) -> None:
        self.works = True
        self.sent: list[list[Dispatch]] = []
        self.recoveries = 0
        #: Done while a sending is under way.
        self.meanwhile: Callable[[], object] = lambda: None

    def send(self, tasks: Sequence[Dispatch]) -> bool:
        self.meanwhile()
        if self.works:
            self.sent.append(list(tasks))
        return self.works

    def recover(self) -> bool:
        self.recoveries += 1
        return self.works
