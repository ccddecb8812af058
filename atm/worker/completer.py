"""The one place through which every attempt leaves this process, whatever became of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from atm.batching.group_commit import GroupCommit
from atm.batching.reply import Reply
from atm.broker.broker import TaskBroker
from atm.errors import AtmError, BrokerUnavailableError, UnavailableError
from atm.service.attempts import AttemptService, Behind, ChangeResult, Claim, End
from atm.service.outcomes import Failed, HandedBack, Outcome, Succeeded, internal_error
from atm.states import FINAL, Reason
from atm.store.tasks import LostRaceError
from atm.worker.attempt import Attempt, Attempts, State

logger = logging.getLogger(__name__)

#: Ends that may wait to be committed: five commits' worth.
MOST_ENDING = 1000

Commits = GroupCommit[Claim | End, ChangeResult]


class Completer:
    """Has ends committed, and messages acknowledged after that. Safe to use from several threads.

    `ends` commits what ends in groups; `service` writes at once.
    """

    def __init__(
        self, attempts: Attempts, ends: Commits, service: AttemptService, broker: TaskBroker
    ) -> None:
        self._attempts = attempts
        self._ends = ends
        self._service = service
        self._broker = broker

    def complete(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Has it written how a claimed attempt ended, and what it said last; False when it has ended already.

        Waits for that only where SQL is far behind: then no more is begun.
        """
        reply: Reply[ChangeResult] = Reply()
        with attempt.log.writing:
            # In one step: SQL will say for a while that it runs here.
            if not self._attempts.step(attempt, State.ENDING):
                return False
            reply.add_done_callback(partial(self._committed, attempt, outcome))
            try:
                self._ends.submit(End(*attempt.id, outcome, attempt.log.take()), reply)
            except AtmError as error:
                reply.set_exception(error)
        # They hold the frames of the handler, and those hold the attempt.
        attempt.raised = attempt.failure = None
        if len(self._ends) > MOST_ENDING:
            reply.wait()
        return True

    def _committed(self, attempt: Attempt, outcome: Outcome, reply: Reply[ChangeResult]) -> None:
        if (error := reply.exception()) is not None:
            self._attempts.step(attempt, State.UNSTORED)
            logger.error("task %s: how it ended could not be stored: %s", attempt.id.task_id, error)
            return
        status = reply.result()
        is_back = isinstance(outcome, HandedBack)
        self._attempts.step(attempt, State.HANDED_BACK if is_back else State.STORED)
        if attempt.fetched is not None:
            self._broker.acknowledge_later(attempt.fetched, ended=status in FINAL)
        level = logging.DEBUG if isinstance(outcome, Succeeded) else logging.INFO
        if logger.isEnabledFor(level):
            how = type(outcome).__name__
            logger.log(level, "task %s, attempt %d: %s → %s", *attempt.id, how, status or "refused")

    def give_up(self, attempt: Attempt, outcome: Outcome) -> None:
        """Writes an end that the attempt's handler has not reached, at once. Raises UnavailableError.

        What the handler comes to later is refused by SQL, which says so in the history.
        """
        with attempt.log.writing:
            report = attempt.log.take()
            try:
                self._service.finish(*attempt.id, outcome, report)
            except AtmError:
                attempt.log.put_back(report)
                raise
        attempt.given_up = True

    def hand_back(self, attempts: Sequence[Attempt], why: str, *, unanswered: bool = False) -> None:
        """Leaves attempts that no thread has begun with to other workers: in SQL where they are claimed.

        A claim that SQL has not answered belongs to nobody yet: it stays,
        but for `unanswered`; should it be committed later, the reconciler ends
        it. Raises BrokerUnavailableError; then those that are not claimed stay, too.
        """
        unclaimed = []
        for attempt in attempts:
            claim = attempt.claim
            if attempt.state is State.FETCHED:
                unclaimed.append(attempt)
            elif attempt.state is not State.CLAIMED or claim is None:
                continue
            elif not claim.answered:
                unclaimed += [attempt] * unanswered
            elif isinstance(error := claim.exception(), UnavailableError):
                unclaimed.append(attempt)
            elif error is not None or claim.result() is None:
                self.drop(attempt)
            elif claim.result() is Behind.BEHIND:
                unclaimed.append(attempt)
            else:
                self.complete(attempt, HandedBack(why))
        messages = [attempt.fetched for attempt in unclaimed if attempt.fetched is not None]
        if messages:
            # Forgotten only when Redis has them: it answers, or this is tried again. One that a
            # thread begins with just now is started once all the same: SQL sees to that.
            self._broker.requeue(messages)
        for attempt in unclaimed:
            self._attempts.step(attempt, State.HANDED_BACK)

    def requeue(self, attempt: Attempt, *, last: bool = False) -> None:
        """Leaves an attempt that its thread could not claim to whoever fetches it next.

        `last`: after all that wait.
        """
        # First of all forgotten here, so that this process may fetch it, too.
        if self._attempts.step(attempt, State.HANDED_BACK) and attempt.fetched is not None:
            try:
                self._broker.requeue([attempt.fetched], last=last)
            except BrokerUnavailableError:
                # The relay sends another one.
                self._broker.acknowledge_later(attempt.fetched)

    def drop(self, attempt: Attempt) -> None:
        """There is nothing to do for it: its message is acknowledged."""
        if self._attempts.step(attempt, State.DROPPED) and attempt.fetched is not None:
            self._broker.acknowledge_later(attempt.fetched)

    def thread_left(self, attempt: Attempt) -> None:
        """The thread that got it is free. An attempt that has no end by now, and awaits none, gets one."""
        state = attempt.state
        if state is State.RUNNING and not attempt.ends_elsewhere:
            if attempt.context is None:
                self.drop(attempt)
            else:
                self.complete(attempt, internal_error("it left its thread without an end"))
        elif state is State.CLAIMED and attempt.claim is not None:
            attempt.claim.wait()
            self.hand_back([attempt], "its thread left before it began")
        elif state is State.FETCHED:
            self.drop(attempt)


def unstorable(change: Claim | End, error: Exception) -> End:
    """What is stored instead of an end that the database cannot keep: the task must still end.

    Raises the error for anything else.
    """
    if isinstance(change, Claim) or isinstance(error, LostRaceError):
        raise error
    logger.error("task %s: how it ended cannot be stored", change.task_id, exc_info=error)
    said = "how the attempt ended cannot be stored"
    if isinstance(error, AtmError):
        said += f": {error}"
    outcome = Failed(Reason.INVALID_RESULT, said, retryable=False)
    return End(change.task_id, change.attempt, outcome)
