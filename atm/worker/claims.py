"""Claims ahead of the threads: a thread that is free finds its next attempt claimed.

A claim is a commit, of milliseconds, and a handler may need none of them. An
attempt that was claimed and does not get a thread soon is handed back, and
charged to nobody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from atm.errors import AtmError, UnavailableError
from atm.service.attempts import Behind, Claim, ClaimedTask
from atm.worker.attempt import Attempt, AttemptId, Attempts, State
from atm.worker.completer import Commits, Completer

logger = logging.getLogger(__name__)


#: A thread that waits for SQL's answer looks this often, in seconds, whether its attempt was handed back.
_LOOK_SECONDS = 0.25
#: For how long an attempt is tried again that the database does not know of yet; then its task is gone.
BEHIND = timedelta(seconds=10)
#: ... and how long its thread waits between two tries.
_BEHIND_SECONDS = 0.02


class Claims:
    """Asks SQL for attempts, and gives each to the thread that begins with it.

    `starts` commits the claims. A claim that is older than `too_old` seconds
    is begun with only if `is_ours` says so: the process may have been frozen,
    and given up on. `now` is the database's time.
    """

    def __init__(
        self,
        attempts: Attempts,
        starts: Commits,
        completer: Completer,
        *,
        too_old: float,
        is_ours: Callable[[AttemptId], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._attempts = attempts
        self._starts = starts
        self._completer = completer
        self._too_old = too_old
        self._is_ours = is_ours
        self._now = now

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
        while claim is not None and not claim.wait(_LOOK_SECONDS):
            if attempt.state is not State.CLAIMED:
                return None
        if not self._attempts.step(attempt, State.RUNNING):
            return None
        try:
            claim = claim or self._starts.ask([Claim(*attempt.id)])[0]
            found = claim.result()
            if isinstance(found, ClaimedTask) and not self._is_good(attempt):
                logger.info("task %s, attempt %d, was given up on before it began", *attempt.id)
                found = None
        except UnavailableError:
            # The worker stops, or is cut off from SQL.
            self._completer.requeue(attempt)
            return None
        except Exception:
            # Its message is dropped; the relay sends it again, later.
            logger.exception("task %s, attempt %d, cannot be claimed", *attempt.id)
            found = None
        if isinstance(found, ClaimedTask):
            return found
        if found is Behind.BEHIND and attempt.fetched and self._now() - attempt.fetched.sent_at < BEHIND:
            logger.debug("task %s, attempt %d: not here yet", *attempt.id)
            time.sleep(_BEHIND_SECONDS)
            self._completer.requeue(attempt, last=True)
        else:
            logger.debug("task %s, attempt %d: out of date, or another worker's", *attempt.id)
            self._completer.drop(attempt)
        return None

    def _is_good(self, attempt: Attempt) -> bool:
        return attempt.begun_at - attempt.fetched_at <= self._too_old or self._is_ours(attempt.id)
