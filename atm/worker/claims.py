"""Claims ahead of the threads: a thread that is free finds its next task claimed.

A claim is a commit, of milliseconds, and a handler may need none of them.
What was claimed and does not get a thread soon is handed back, and charged to
nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

from atm.batching.group_commit import GroupCommit
from atm.batching.reply import Reply
from atm.broker.dispenser import TaskMessage
from atm.errors import AtmError, UnavailableError
from atm.models import now
from atm.service.attempts import Answer, Claim, ClaimedTask, End
from atm.service.outcomes import HandedBack
from atm.states import Status
from atm.worker.unbegun import Unbegun

logger = logging.getLogger(__name__)

Commits = GroupCommit[Claim | End, Answer]


class Claims:
    """Asks for attempts, and says to which thread each belongs.

    `starts` commits the claims, `ends` what is handed back.
    `acknowledge` is called with the messages of those that were handed back.
    A claim that is older than `too_old` seconds is not begun with: the process
    was frozen, and others may have given it up.
    """

    def __init__(
        self,
        starts: Commits,
        ends: Commits,
        unbegun: Unbegun,
        acknowledge: Callable[[TaskMessage], None],
        *,
        too_old: float,
    ) -> None:
        self._starts = starts
        self._ends = ends
        self._unbegun = unbegun
        self._acknowledge = acknowledge
        self._too_old = timedelta(seconds=too_old)

    def ask(self, messages: Sequence[TaskMessage]) -> None:
        """Has them claimed soon, all that were fetched together in one commit. Does not wait."""
        # What was cancelled while it waited is skipped, not claimed.
        wanted = [m for m in messages if not m.cancelled and self._unbegun.add(*m.attempt)]
        try:
            replies = self._starts.ask([Claim(*message.attempt) for message in wanted])
        except AtmError:
            # Their threads will ask again.
            for message in wanted:
                self._unbegun.remove(*message.attempt)
            return
        for message, reply in zip(wanted, replies, strict=True):
            message.claim = reply

    def begin(self, task_id: str, attempt: int, claim: Reply[Answer] | None) -> ClaimedTask | None:
        """The task, for a thread that begins with it now.

        None when the hint is out of date, or it was handed back. Without a
        `claim` it is claimed here. Waits until the claim is committed.
        """
        if claim is not None:
            claim.wait()
            if not self._unbegun.remove(task_id, attempt):
                return None
        try:
            task = self._starts.call(Claim(task_id, attempt)) if claim is None else claim.result()
        except UnavailableError:
            task = None  # the worker leaves: SQL is not waited for any more
        assert not isinstance(task, Status), "a claim is answered with a task"
        if task is None:
            logger.debug("task %s, attempt %d: out of date, or someone else's", task_id, attempt)
        elif now() - task.started_at > self._too_old:
            self._end(task_id, attempt, "its worker was frozen before it began", Reply())
            return None
        return task

    def hand_back(self, messages: Sequence[TaskMessage], why: str) -> list[TaskMessage]:
        """Leaves to other workers those that are claimed and not begun with; returns which they are."""
        given = []
        for message in messages:
            claim = message.claim
            # One that is not answered yet belongs to nobody; SQL does not answer.
            if claim is None or not claim.answered:
                continue
            message.revoked = True
            if not self._unbegun.remove(*message.attempt):
                message.revoked = False
                continue
            given.append(message)
            settled: Reply[Answer] = Reply()
            settled.add_done_callback(lambda settled, message=message: self._handed_back(message, settled))  # type: ignore[misc]
            try:
                held = claim.result() is not None
            except Exception:  # noqa: BLE001 - it was not claimed
                held = False
            if held:
                self._end(*message.attempt, why, settled)
            else:
                settled.set_result(None)
        return given

    def _end(self, task_id: str, attempt: int, why: str, settled: Reply[Answer]) -> None:
        self._ends.submit(End(task_id, attempt, HandedBack(why)), settled)

    def _handed_back(self, message: TaskMessage, settled: Reply[Answer]) -> None:
        # What could not be committed is ended when the process ends.
        if settled.exception() is None:
            self._acknowledge(message)
