"""What interrupts handlers: cancel flags, deadlines, and the patience with those that do not react."""

from __future__ import annotations

import logging
import time

from atm.broker.cancel_flags import CancelFlags
from atm.errors import BrokerUnavailableError, UnavailableError
from atm.service.outcomes import Cancelled, Outcome, TimedOut
from atm.worker.attempt import Attempt, Attempts
from atm.worker.completer import Completer
from atm.worker.interruption import Kind

logger = logging.getLogger(__name__)

#: How often deadlines are looked at and stubborn handlers pressed.
TICK_SECONDS = 0.05
#: How often the flags of all running attempts are read: what a lost message of
#: the channel costs. Being told takes 300 ms at the most.
FLAGS_SECONDS = 0.2
#: How long after its deadline an attempt that does not react is given up on in SQL.
GIVE_UP_SECONDS = 2.0
#: How long after its task was cancelled, and its handler's own grace. Longer: no
#: time is over, and a handler that cleans up may do so.
CANCEL_GIVE_UP_SECONDS = 10.0
_HOW = "it did not react, and still occupies a thread of its worker"


class CancelListener:
    """A role that interrupts handlers whose task's cancel flag is raised in Redis."""

    interval = 0.0

    def __init__(self, attempts: Attempts, flags: CancelFlags) -> None:
        self._attempts = attempts
        self._flags = flags
        self._subscription = flags.subscription()
        self._read_at = 0.0
        self._is_deaf = False

    def run_once(self) -> bool:
        """Listens, and reads the flags when one was raised, and now and then. Raises UnavailableError."""
        try:
            task_id = self._subscription.next(FLAGS_SECONDS)
        except BrokerUnavailableError as error:
            # Who may not listen can read; where Redis is away, this raises, too.
            self._read_flags()
            if not self._is_deaf:
                self._is_deaf = True
                logger.warning("cancelled tasks are not heard of at once: %s", error)
            time.sleep(FLAGS_SECONDS)
            return False
        self._is_deaf = False
        concerns = task_id is not None and self._attempts.runs(task_id)
        if concerns or time.monotonic() - self._read_at >= FLAGS_SECONDS:
            self._read_flags()
        return False

    def close(self) -> None:
        """Ends the subscription."""
        self._subscription.close()

    def _read_flags(self) -> None:
        at = time.monotonic()
        watched = [attempt for attempt in self._attempts.running() if attempt.interruption is None]
        raised = self._flags.of([attempt.id.task_id for attempt in watched])
        self._read_at = at
        for attempt in watched:
            if attempt.id.task_id in raised:
                attempt.interrupt(Kind.CANCEL, raised[attempt.id.task_id])


class Interrupter:
    """A role that interrupts handlers that are out of time, and presses those that were told to stop."""

    interval = TICK_SECONDS

    def __init__(self, attempts: Attempts, completer: Completer) -> None:
        self._attempts = attempts
        self._completer = completer

    def run_once(self) -> bool:
        """Looks at every running attempt. Raises what one could not be stopped for, after a look at all."""
        now = time.monotonic()
        defect: Exception | None = None
        for attempt in self._attempts.running():
            try:
                if attempt.deadline is not None and now >= attempt.deadline:
                    attempt.interrupt(Kind.TIMEOUT)
                attempt.press()
            except Exception as error:  # noqa: BLE001 - raised below: those beside it have their time, too
                defect = error
            self._give_up_if_stuck(attempt, now)
        if defect is not None:
            raise defect
        return False

    def _give_up_if_stuck(self, attempt: Attempt, now: float) -> None:
        """Lets SQL know how it ends, when the handler cannot be stopped: its thread stays."""
        interruption = attempt.interruption
        if attempt.given_up or interruption is None or now - interruption.at < _patience(attempt):
            return
        outcome = _ends_as(interruption.kind)
        if outcome is None:
            # SQL has ended it.
            attempt.given_up = interruption.kind is Kind.REVOKED
            return
        try:
            self._completer.give_up(attempt, outcome)
        except UnavailableError:
            return  # at the next tick
        except Exception:
            # What SQL refuses now it refuses at the next tick, too. The server ends what is overdue.
            logger.exception("task %s cannot be given up on", attempt.id.task_id)
            attempt.given_up = True


def _patience(attempt: Attempt) -> float:
    """How many seconds an attempt that was told to stop may go on before it is given up on."""
    if attempt.interruption is not None and attempt.interruption.kind is Kind.CANCEL:
        return CANCEL_GIVE_UP_SECONDS + attempt.cancel_grace
    return GIVE_UP_SECONDS


def _ends_as(kind: Kind) -> Outcome | None:
    match kind:
        case Kind.TIMEOUT:
            return TimedOut(_HOW)
        case Kind.CANCEL:
            return Cancelled(_HOW)
    return None
