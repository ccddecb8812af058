"""Why a running attempt shall end before its time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from atm.errors import TaskCancelled, TaskInterrupted, TaskTimedOut
from atm.service.outcomes import Cancelled, HandedBack, Outcome, TimedOut


class Kind(StrEnum):
    """The reasons."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    # The worker stops.
    DRAIN = "drain"
    # SQL says that the attempt no longer holds the task.
    REVOKED = "revoked"


@dataclass(frozen=True)
class Interruption:
    """One reason, since when (`time.monotonic`), and who asked, where someone did."""

    kind: Kind
    requested_by: str
    at: float

    def exception(self) -> TaskInterrupted:
        """What is raised in the handler."""
        if self.kind is Kind.CANCEL:
            return TaskCancelled(f"the task was cancelled by {self.requested_by or 'someone unknown'}")
        if self.kind is Kind.TIMEOUT:
            return TaskTimedOut("the attempt is out of time")
        return TaskInterrupted(
            "the worker stops" if self.kind is Kind.DRAIN else "the attempt was given up on"
        )

    def outcome(self, how: str) -> Outcome:
        """How the attempt ended, now that this has ended it."""
        if self.kind is Kind.CANCEL:
            return Cancelled(how)
        if self.kind is Kind.TIMEOUT:
            return TimedOut(how)
        return HandedBack(f"{self.exception()}; {how}")


class Stopped(Exception):  # noqa: N818 - it says what happened, not what went wrong
    """An executor raises it when an interruption ended the handler; `how` says by which means."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how
