"""Skips the messages of tasks whose cancel flag is up."""

from __future__ import annotations

from typing import Any

from dramatiq import Middleware
from dramatiq.middleware import SkipMessage


class Cancel(Middleware):
    """A task that was cancelled while it waited never starts. Running ones: see atm.worker.interrupter.

    The flag is read in the round trip that fetches the message. One that is
    raised later, or that Redis has lost, is no matter: SQL refuses to start a
    cancelled task.
    """

    def before_process_message(self, broker: Any, message: Any) -> None:
        """Looks at the flag."""
        if message.attempt.cancelled_before:
            raise SkipMessage(f"task {message.attempt.id.task_id} was cancelled")
