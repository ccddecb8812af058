"""What stands around a handler under test where a worker has SQL: derived from the worker's own classes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from atm.service.attempts import ClaimedTask, Progress
from atm.service.outcomes import Outcome
from atm.testing.verdict import Verdict
from atm.values import storable
from atm.worker.attempt import Attempt, AttemptId, Attempts, State
from atm.worker.claims import Claims
from atm.worker.completer import Completer
from atm.worker.context import Context
from atm.worker.log_buffer import LogBuffer

if TYPE_CHECKING:
    from atm.testing.run import HandlerRun


class ObservedAttempt(Attempt):
    """An attempt whose handler's every word goes into `transcript`."""

    def __init__(self, attempt_id: AttemptId, run: HandlerRun, transcript: Transcript) -> None:
        super().__init__(attempt_id)
        self._run = run
        self._transcript = transcript

    def prepare(self, task: ClaimedTask, log: LogBuffer | None = None) -> None:
        """See `Attempt`."""
        super().prepare(task, self._transcript)
        self.context = ObservedContext(self._run, task, self._transcript)
        if self._run.clock.skips:
            # The run's own clock says when its time is over.
            self.deadline = None
        self._run.wake()


class Transcript(LogBuffer):
    """Keeps what would go to SQL, in order."""

    def __init__(self, run: HandlerRun) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.reports: list[Progress] = []
        self._run = run

    def line(self, message: str) -> bool:
        """See `LogBuffer`."""
        is_kept = super().line(message)
        self.lines += [storable(line.message) for line in self.take().lines]
        self._run.look()
        return is_kept

    def progress(self, fraction: float, message: str) -> None:
        """See `LogBuffer`."""
        super().progress(fraction, message)
        # Not what was taken: another thread's report may have replaced this one.
        self.reports.append(Progress(fraction, message))
        self._run.look()


class ObservedContext(Context):
    """The context that a handler under test gets. Its sleep takes no time where the run skips sleeps."""

    def __init__(self, run: HandlerRun, task: ClaimedTask, transcript: LogBuffer) -> None:
        super().__init__(task, transcript)
        self._run = run

    @property
    def cancelled(self) -> bool:
        """See `Context`."""
        self._run.look()
        return super().cancelled

    def sleep(self, seconds: float) -> None:
        """See `Context`."""
        if self._run.clock.skips:
            self._run.pass_time(seconds)
            self.raise_if_cancelled()
        else:
            self._run.look()
            super().sleep(seconds)


class Granted(Claims):
    """Stands in for the claims in SQL, without their parts: the attempt is this worker's."""

    def __init__(self, attempts: Attempts, task: ClaimedTask) -> None:
        self._attempts = attempts
        self._task = task

    def begin(self, attempt: Attempt) -> ClaimedTask:
        """See `Claims`."""
        self._attempts.step(attempt, State.RUNNING)
        return self._task


class Ends(Completer):
    """Stands in for what brings ends to SQL, without its parts: the first end counts, as there."""

    def __init__(self, run: HandlerRun, attempts: Attempts) -> None:
        self.verdict: Verdict | None = None
        self._run = run
        self._attempts = attempts
        self._lock = threading.Lock()

    def complete(self, attempt: Attempt, outcome: Outcome) -> bool:
        """See `Completer`."""
        self._attempts.step(attempt, State.ENDING)
        return self._end(outcome)

    def give_up(self, attempt: Attempt, outcome: Outcome) -> None:
        """See `Completer`."""
        attempt.given_up = True
        self._end(outcome)

    def _end(self, outcome: Outcome) -> bool:
        with self._lock:
            first = self.verdict is None
            if first:
                self.verdict = self._run.verdict_on(outcome)
        self._run.wake()
        return first
