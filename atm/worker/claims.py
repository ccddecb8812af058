"""Claims ahead of the threads: a thread that is free finds its next attempt claimed.

A claim is a commit, of milliseconds, and a handler may need none of them. An
attempt that was claimed and does not get a thread soon is handed back, and
charged to nobody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import timedelta

from atm.errors import AtmError, UnavailableError
from atm.models import now
from atm.service.attempts import Claim, ClaimedTask
from atm.service.outcomes import HandedBack
from atm.states import Status
from atm.worker.attempt import Attempt, Attempts, State
from atm.worker.completer import Commits, Completer

logger = logging.getLogger(__name__)


class Claims:
    """Asks SQL for attempts, and gives each to the thread that begins with it.

    `starts` commits the claims. A claim that is older than `too_old` seconds
    is not begun with: the process was frozen, and others may have given it up.
    """

    def __init__(self, attempts: Attempts, starts: Commits, completer: Completer, *, too_old: float) -> None:
        self._attempts = attempts
        self._starts = starts
        self._completer = completer
        self._too_old = timedelta(seconds=too_old)

    def ask(self, attempts: Sequence[Attempt]) -> None:
        """Has them claimed soon, all that were fetched together in one commit. Does not wait."""
        # What was cancelled while it waited is skipped, not claimed.
        wanted = [a for a in attempts if not a.cancelled_before and self._attempts.step(a, State.CLAIMED)]
        try:
            replies = self._starts.ask([Claim(*attempt.id) for attempt in wanted])
        except AtmError:
            # Their threads will ask again.
            for attempt in wanted:
                self._attempts.step(attempt, State.FETCHED)
            return
        for attempt, reply in zip(wanted, replies, strict=True):
            attempt.claim = reply

    def begin(self, attempt: Attempt) -> ClaimedTask | None:
        """The task, for a thread that begins with the attempt now; waits until its claim is committed.

        None when the hint was out of date, or the attempt was handed back.
        Claims it here where it was not claimed ahead.
        """
        attempt.begun_at = time.monotonic()
        claim = attempt.claim
        if claim is not None:
            claim.wait()
        if not self._attempts.step(attempt, State.RUNNING):
            return None
        try:
            claim = claim or self._starts.ask([Claim(*attempt.id)])[0]
            task = claim.result()
        except UnavailableError:
            task = None  # the worker stops: SQL is not waited for any more
        except Exception:
            # Its message is dropped; the relay sends it again, later.
            logger.exception("task %s, attempt %d, cannot be claimed", *attempt.id)
            task = None
        assert not isinstance(task, Status), "the result of a claim is a task"
        if task is None:
            logger.debug("task %s, attempt %d: out of date, or another worker's", *attempt.id)
            self._completer.drop(attempt)
        elif now() - task.started_at > self._too_old:
            self._completer.complete(attempt, HandedBack("its worker was frozen before it began"))
            return None
        return task
