"""Puts messages that a dead worker had fetched back into their queues."""

from __future__ import annotations

from atm.service.dispatch import Dispatcher


class MessageRecovery:
    """Fetched by a consumer that is silent → queued again."""

    interval = 2.0

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def run_once(self) -> bool:
        """One sweep over the consumers that Redis knows."""
        self._dispatcher.recover()
        return False
