"""One attempt of a handler, run as a worker would run it, with no server, Redis or SQL."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from atm.background import Runner
from atm.errors import TaskInterrupted
from atm.models import now
from atm.service.attempts import ClaimedTask, Progress
from atm.service.outcomes import Outcome
from atm.states import Reason, Status
from atm.testing.clock import Clock
from atm.testing.event_loop import RunLoop
from atm.testing.moments import Moment
from atm.testing.stand_ins import Ends, Granted, ObservedAttempt, Transcript
from atm.testing.verdict import Verdict
from atm.worker.attempt import AttemptId, Attempts
from atm.worker.claim_ledger import ClaimLedger
from atm.worker.execution import Execution
from atm.worker.executors.coroutine import CoroutineExecutor
from atm.worker.executors.process import ProcessExecutor
from atm.worker.executors.thread import ThreadExecutor
from atm.worker.handlers import HandlerRegistry, HandlerSpec
from atm.worker.interrupter import Interrupter
from atm.worker.interruption import Kind, Stopped
from atm.worker.middleware.retries import outcome_of

#: How long `wait` and `wait_for_line` wait unless they are told otherwise.
WAIT_SECONDS = 10.0
#: What ends a handler. Anything else (KeyboardInterrupt, `pytest.fail`) is for whoever runs the test.
_OF_HANDLERS = (Exception, TaskInterrupted, SystemExit, GeneratorExit, asyncio.CancelledError)


class HandlerEndedError(AssertionError):
    """The handler did not succeed, or ended before what was waited for."""


class HandlerRun:
    """One attempt: how it ended, what it said, and, while it runs, the ways to stop it.

    Made by `run_handler`, which returns it ended, and by `start_handler`. What
    can be read only when it has ended raises RuntimeError before.
    """

    def __init__(
        self,
        spec: HandlerSpec,
        task: Mapping[str, Any],
        clock: Clock,
        *,
        cancel_at: Moment | None,
        time_out_at: Moment | None,
        requested_by: str,
        environment: Mapping[str, str],
    ) -> None:
        """`task` has the columns of the running task. `environment` is for a process of the handler's own."""
        self.clock = clock
        self._spec = spec
        self._task = dict(task)
        self._requested_by = requested_by
        self._moments = {Kind.CANCEL: cancel_at, Kind.TIMEOUT: time_out_at}
        self._moment_error: Exception | None = None
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._transcript = Transcript(self)
        attempt_id = AttemptId(task["task_id"], task["attempt"])
        self._attempt = ObservedAttempt(attempt_id, self, self._transcript)
        self._loop: RunLoop | None = None
        self._thread: threading.Thread | None = None

        registry = HandlerRegistry()
        registry.add(spec)
        attempts = Attempts(ClaimLedger())
        self._ends = Ends(self, attempts)
        self._coroutines = CoroutineExecutor(self._new_loop)
        attempts.add([self._attempt])
        self._execution = Execution(
            Granted(attempts, ClaimedTask.of_row({**task, "attempt": task["attempt"] - 1}, now())),
            self._ends,
            registry,
            {
                "thread": ThreadExecutor(),
                "async": self._coroutines,
                "process": ProcessExecutor(environment),
            },
        )
        # Presses a handler that was told to stop, and looks at the clock where that is not the run's own.
        self._interrupter = Runner([Interrupter(attempts, self._ends)])
        self._presses = False

    def __repr__(self) -> str:
        verdict = self._ends.verdict
        if verdict is None:
            return f"<HandlerRun of {self._spec.task_type}: runs>"
        words = [str(verdict.status), verdict.error, "will retry" if verdict.will_retry else ""]
        return f"<HandlerRun of {self._spec.task_type}: {', '.join(filter(None, words))}>"

    # -- what it said ---------------------------------------------------------

    @property
    def lines(self) -> list[str]:
        """What it has logged so far, as in the task's history: `WARNING: ` before what is worse than INFO."""
        return list(self._transcript.lines)

    @property
    def progress(self) -> list[Progress]:
        """Every report of its progress so far, in order: `.fraction` from 0 to 1, and `.message`."""
        return list(self._transcript.reports)

    @property
    def seconds(self) -> float:
        """How old the attempt is. Where sleeps are skipped only what it waited for counts."""
        return self.clock.now

    # -- how it ended ---------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether ATM would know its end by now."""
        return self._ends.verdict is not None

    @property
    def status(self) -> Status:
        """SUCCESS, FAILED, CANCELLED or TIMEOUT, whether it is tried again or not. PROCESSING before."""
        return Status.PROCESSING if self._ends.verdict is None else self._ends.verdict.status

    @property
    def result(self) -> dict[str, Any]:
        """The result, as a client decodes it (`Task.result_values()`). Empty without success."""
        return self._verdict.result

    @property
    def raw_result(self) -> dict[str, str]:
        """The result as it travels: strings."""
        return self._verdict.raw_result

    @property
    def reason(self) -> Reason | None:
        """Why it did not succeed: the task's `error_reason`."""
        return self._verdict.reason

    @property
    def error(self) -> str:
        """What went wrong, in one line: the task's `error_message`. Empty after success."""
        return self._verdict.error

    @property
    def message(self) -> str:
        """What the task's history says of the end, and of the retry."""
        return self._verdict.message

    @property
    def will_retry(self) -> bool:
        """Whether ATM would try the task again."""
        return self._verdict.will_retry

    @property
    def retry_wait(self) -> float | None:
        """The seconds before it is tried again, by its policy; ATM takes off up to a fifth at random."""
        return self._verdict.retry_wait

    @property
    def outcome(self) -> Outcome:
        """The end, as the worker reports it."""
        return self._verdict.outcome

    @property
    def raised(self) -> BaseException | None:
        """What came out of the handler, if it raised; or what was wrong with its payload or its result."""
        error = self._error
        if isinstance(error, Stopped):
            return error.__cause__
        return error

    def check(self) -> HandlerRun:
        """The run itself, if it succeeded.

        Raises what the handler raised, with its traceback; HandlerEndedError
        when it ended otherwise without an exception.
        """
        if self._verdict.status is Status.SUCCESS:
            return self
        if self.raised is not None:
            raise self.raised
        raise HandlerEndedError(f"{self.status}: {self.message}")

    # -- while it runs --------------------------------------------------------

    def cancel(self, requested_by: str = "") -> None:
        """Cancels the task, as CancelTask does. Does not wait."""
        self._interrupt(Kind.CANCEL, requested_by or self._requested_by)

    def time_out(self) -> None:
        """Says that the attempt's time is over. Does not wait."""
        self._interrupt(Kind.TIMEOUT)

    def wait(self, timeout: float = WAIT_SECONDS) -> HandlerRun:
        """The run, once it has ended. Raises TimeoutError after `timeout` seconds."""
        self._wait(lambda: self.ended, timeout, "its end")
        if self._thread is not None and not self._attempt.given_up:
            self._thread.join(timeout)
        self._raise_what_is_not_the_handlers()
        return self

    def wait_for_line(self, text: str, timeout: float = WAIT_SECONDS) -> str:
        """The first line with `text` in it, as soon as it is logged.

        Raises TimeoutError after `timeout` seconds, HandlerEndedError when the
        handler ends without it.
        """
        self._wait(lambda: self._line(text) is not None or self.ended, timeout, f"a line with {text!r}")
        line = self._line(text)
        if line is None:
            raise HandlerEndedError(f"it ended without a line with {text!r}: {self!r}, {self.lines}")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancels it if it still runs, and waits until it has ended."""
        if not self.ended:
            self.cancel()
            self.wait()

    # -- for the kit ----------------------------------------------------------

    def perform(self) -> HandlerRun:
        """Runs it to its end in the calling thread.

        Raises what is not the handler's: Ctrl-C, `pytest.fail` and the like,
        and errors of the test's own moments.
        """
        if not self.clock.skips:
            self._start_pressing()
        try:
            self._execution.run(self._attempt)
            if (error := self._attempt.failure) is not None:
                self._error = error
                self._ends.complete(self._attempt, outcome_of(self._attempt, error))
        finally:
            if self._presses:
                self._interrupter.stop()
            if self._loop is not None:
                self._loop.end(self._coroutines.close)
        self._raise_what_is_not_the_handlers()
        return self

    def start(self) -> HandlerRun:
        """Runs it in a thread of its own; it can be interrupted once this returns."""
        self._thread = threading.Thread(
            target=self._perform_aside, name=f"atm-test-{self._spec.task_type}", daemon=True
        )
        self._thread.start()
        self._wait(lambda: self._attempt.context is not None or self.ended, WAIT_SECONDS, "its start")
        return self

    def look(self) -> None:
        """The handler has done something: wakes those who wait, and interrupts it if this is the moment."""
        self.wake()
        if self._attempt.interruption is not None or self.ended:
            return
        for kind, moment in self._moments.items():
            if moment is not None and self._is_now(moment):
                self._interrupt(kind, self._requested_by if kind is Kind.CANCEL else "")
                return

    def pass_time(self, seconds: float) -> None:
        """The handler has waited for so long. Its time may be over with that."""
        if self.clock.skips and self.clock.skip(seconds):
            self.time_out()
        self.look()

    def wake(self) -> None:
        """Wakes those who wait for something."""
        with self._changed:
            self._changed.notify_all()

    def verdict_on(self, outcome: Outcome) -> Verdict:
        """What becomes of the task."""
        return Verdict.of(self._task, outcome)

    # -- inside ---------------------------------------------------------------

    @property
    def _verdict(self) -> Verdict:
        verdict = self._ends.verdict
        if verdict is None:
            raise RuntimeError("the handler still runs: call wait() first")
        return verdict

    def _line(self, text: str) -> str | None:
        return next((line for line in self._transcript.lines if text in line), None)

    def _is_now(self, moment: Moment) -> bool:
        try:
            return bool(moment(self))
        except Exception as error:  # noqa: BLE001 - the test's own code
            # Not into the handler, which called: it is stopped, and the test is told when it has ended.
            self._moment_error = error
            return True

    def _interrupt(self, kind: Kind, requested_by: str = "") -> None:
        if self._attempt.interruption is not None or self.ended:
            return
        if kind is Kind.CANCEL:
            self._task |= {"cancel_requested_at": now(), "cancel_requested_by": requested_by}
        self.clock.lift()
        self._start_pressing()
        self._attempt.interrupt(kind, requested_by)

    def _start_pressing(self) -> None:
        with self._changed:
            if not self._presses:
                self._presses = True
                self._interrupter.start()

    def _new_loop(self) -> RunLoop:
        self._loop = RunLoop(self.clock, self.pass_time)
        return self._loop

    def _perform_aside(self) -> None:
        # `wait` raises it, in the test's thread.
        with contextlib.suppress(BaseException):
            self.perform()

    def _wait(self, is_so: Any, timeout: float, what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(is_so, timeout):
                raise TimeoutError(f"waited {timeout:g} s for {what}: {self!r}, {self.lines}")

    def _raise_what_is_not_the_handlers(self) -> None:
        if self._moment_error is not None:
            raise self._moment_error
        error = self.raised
        if error is not None and not isinstance(error, _OF_HANDLERS):
            raise error
