"""The three ways to run a handler stop it by their means, and say which these were."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_worker import FakeWorker, claimed

from atm.errors import TaskInterrupted, TaskTimedOut
from atm.service.outcomes import Cancelled, Failed, HandedBack, Outcome, Succeeded, TimedOut
from atm.states import Reason
from atm.worker.attempt import Attempt
from atm.worker.executors import process as process_module
from atm.worker.executors.process import ProcessExecutor
from atm.worker.interruption import Interruption, Kind

# Hypothesis, in the same process, has Python's collector call it: the exception may come just there.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <function gc_cumulative_time")
#: How often loops here look again. A handler that is not stopped fails its test by the timeout.
_TICK = 0.001


@pytest.fixture
def worker() -> Iterator[FakeWorker]:
    made = FakeWorker()
    yield made
    made.close()


def _stop(worker: FakeWorker, begun: threading.Event, kind: Kind) -> Outcome:
    """How the attempt ends that is interrupted once its handler has begun, and pressed as the worker does."""
    attempt = worker.attempt()
    with ThreadPoolExecutor(1) as pool:
        processed = pool.submit(worker.process, attempt)
        assert begun.wait(60)
        attempt.interrupt(kind, "ann")
        while not processed.done():
            attempt.press()
            threading.Event().wait(_TICK)
        processed.result(60)
    assert worker.is_empty()
    return worker.outcome()


# -- threads -------------------------------------------------------------------


def _loops(begun: threading.Event) -> None:
    begun.set()
    while True:
        threading.Event().wait(_TICK)


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        (Kind.CANCEL, Cancelled),
        (Kind.TIMEOUT, TimedOut),
        (Kind.DRAIN, HandedBack),
        (Kind.REVOKED, HandedBack),
    ],
)
def test_a_plain_handler_that_does_not_look_is_stopped_by_an_exception(
    worker: FakeWorker, kind: Kind, outcome: type[Outcome]
) -> None:
    begun = threading.Event()
    worker.handle(lambda context, payload: _loops(begun), cancel_grace=0.0)
    ended = _stop(worker, begun, kind)
    assert isinstance(ended, outcome)
    assert "an exception was raised in its thread" in str(ended)


def test_the_exception_is_that_of_the_reason(worker: FakeWorker) -> None:
    begun = threading.Event()
    caught: list[type] = []

    def function(context: Any, payload: Any) -> None:
        try:
            _loops(begun)
        except TaskInterrupted as error:
            caught.append(type(error))
            raise

    worker.handle(function, cancel_grace=0.0)
    _stop(worker, begun, Kind.TIMEOUT)
    assert caught == [TaskTimedOut]


def test_a_handler_that_notices_and_returns_is_stopped_by_itself(worker: FakeWorker) -> None:
    begun = threading.Event()

    def function(context: Any, payload: Any) -> str:
        begun.set()
        while not context.cancelled:
            threading.Event().wait(_TICK)
        return "half"

    worker.handle(function, cancel_grace=60.0)
    assert _stop(worker, begun, Kind.CANCEL) == Cancelled("the handler noticed and returned")


def test_a_handler_that_sleeps_is_stopped_at_once(worker: FakeWorker) -> None:
    begun = threading.Event()

    def function(context: Any, payload: Any) -> None:
        begun.set()
        context.sleep(600)

    worker.handle(function, cancel_grace=60.0)
    assert _stop(worker, begun, Kind.CANCEL) == Cancelled("the handler noticed and stopped by an exception")


def test_what_a_stopped_handler_raises_in_cleaning_up_is_told(worker: FakeWorker) -> None:
    begun = threading.Event()

    def function(context: Any, payload: Any) -> None:
        try:
            _loops(begun)
        finally:
            raise KeyError("while cleaning up")

    worker.handle(function, cancel_grace=0.0)
    ended = _stop(worker, begun, Kind.CANCEL)
    assert isinstance(ended, Cancelled)
    assert "it then raised KeyError: 'while cleaning up'" in ended.how


def test_a_handler_that_succeeds_although_it_was_told_to_stop_succeeds(worker: FakeWorker) -> None:
    def function(context: Any, payload: Any) -> str:
        attempt.interrupt(Kind.CANCEL)
        return "whole"

    worker.handle(function, cancel_grace=60.0)
    attempt = worker.attempt()
    worker.process(attempt)
    assert worker.outcome() == Succeeded({"result": "whole"})


def test_an_exception_that_comes_too_late_hits_nobody(worker: FakeWorker) -> None:
    """It is raised as the handler returns; the thread's next attempt is another's."""

    def function(context: Any, payload: Any) -> str:
        # Its own thread presses: the exception is pending as soon as that returns.
        attempt.interrupt(Kind.CANCEL)
        return "whole"

    worker.handle(function, cancel_grace=0.0)
    attempt = worker.attempt()
    worker.process(attempt)
    worker.ends.submitted.clear()
    worker.registry._specs.clear()
    worker.handle(lambda context, payload: sum(range(1000)))
    worker.run()
    assert worker.outcome() == Succeeded({"result": "499500"})


# -- coroutines ----------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_a_coroutine_is_cancelled(worker: FakeWorker, kind: Kind) -> None:
    begun = threading.Event()

    async def function(context: Any, payload: Any) -> None:
        begun.set()
        await asyncio.sleep(600)

    worker.handle(function)
    ended = _stop(worker, begun, kind)
    assert "its coroutine was cancelled" in str(ended)
    assert not isinstance(ended, Failed)


def test_a_coroutine_that_cleans_up_and_raises_is_told(worker: FakeWorker) -> None:
    begun = threading.Event()

    async def function(context: Any, payload: Any) -> None:
        try:
            begun.set()
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            raise KeyError("while cleaning up") from None

    worker.handle(function)
    ended = _stop(worker, begun, Kind.TIMEOUT)
    assert isinstance(ended, TimedOut)
    assert "it then raised KeyError" in ended.how


def test_a_coroutine_that_notices_is_stopped_by_itself(worker: FakeWorker) -> None:
    async def returns(context: Any, payload: Any) -> None:
        attempt.context.interrupt(_interruption(attempt))
        assert context.cancelled

    async def raises(context: Any, payload: Any) -> None:
        attempt.context.interrupt(_interruption(attempt))
        context.raise_if_cancelled()

    for function in (returns, raises):
        worker.ends.submitted.clear()
        worker.registry._specs.clear()
        worker.handle(function)
        attempt: Any = worker.attempt()
        worker.process(attempt)
        ended = worker.outcome()
        assert isinstance(ended, Cancelled)
        assert "the handler noticed" in ended.how


def _interruption(attempt: Attempt) -> Interruption:
    """The word to stop, without the cancellation that follows it at once."""
    attempt.interruption = Interruption(Kind.CANCEL, "ann", 0.0)
    return attempt.interruption


def test_a_coroutine_that_cancels_itself_has_failed(worker: FakeWorker) -> None:
    async def function(context: Any, payload: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(600)

    worker.handle(function)
    worker.run()
    failure = worker.failure()
    assert failure.reason is Reason.HANDLER_ERROR
    assert "cancelled itself" in failure.error


def test_coroutines_share_one_loop_which_lives_between_them(worker: FakeWorker) -> None:
    loops = []

    async def function(context: Any, payload: Any) -> None:
        loops.append(asyncio.get_running_loop())

    worker.handle(function)
    worker.run()
    worker.run()
    assert len(set(loops)) == 1


def test_the_traceback_of_a_coroutine_begins_with_its_own_frame(worker: FakeWorker) -> None:
    async def function(context: Any, payload: Any) -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(600)

    worker.handle(function)
    worker.run()
    failure = worker.failure()
    assert failure.reason is Reason.HANDLER_ERROR
    assert failure.error.startswith("TimeoutError")
    assert "asyncio.timeout(0)" in failure.traceback


# -- processes -----------------------------------------------------------------


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch) -> FakeWorker:
    """A worker whose attempts have a process of their own, with the handlers of the test suite in it."""
    monkeypatch.setenv("ATM_HANDLERS", "sample_handlers")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return FakeWorker(executors={"process": ProcessExecutor()})


def _of_type(worker: FakeWorker, task_type: str, **payload: str) -> None:
    worker.claimed = lambda claim: claimed(*claim, task_type=task_type, payload=payload)
    worker.registry._specs[task_type] = SimpleNamespace(  # type: ignore[assignment]
        executor="process", payload_model=None
    )


def test_a_type_that_the_process_does_not_know_is_no_reason_to_try_again(isolated: FakeWorker) -> None:
    _of_type(isolated, "no_such_type")
    isolated.run()
    failure = isolated.failure()
    assert not failure.retryable
    assert "no handler for 'no_such_type'" in failure.error


def test_a_process_that_dies_without_a_word_has_lost_its_attempt(
    isolated: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "_CHILD", "atm.no_such_module")
    _of_type(isolated, "any")
    isolated.run()
    failure = isolated.failure()
    assert (failure.reason, failure.retryable) == (Reason.WORKER_LOST, True)
    assert failure.error == "the handler's process died: exit code 1"


def test_a_process_that_is_told_to_stop_stops(isolated: FakeWorker) -> None:
    _of_type(isolated, "example_task")
    attempt = isolated.attempt()
    said = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        processed = pool.submit(isolated.process, attempt)
        while attempt.context is None or not attempt.log._lines:
            assert not processed.done()
            said.wait(_TICK)
        attempt.interrupt(Kind.CANCEL, "ann")
        processed.result(60)
    ended = isolated.outcome()
    assert isinstance(ended, Cancelled)
    assert ended.how.endswith("(in its own process)")
    assert attempt.handle is None


def test_stopping_a_handler_leaves_no_thread_looking_for_an_exception(worker: FakeWorker) -> None:
    """Where Python traces, before 3.12, the next call of a function would not come back."""
    begun = threading.Event()
    worker.handle(lambda context, payload: _loops(begun), cancel_grace=0.0)
    _stop(worker, begun, Kind.CANCEL)
    traced: list[str] = []
    before = sys.gettrace()
    sys.settrace(lambda frame, event, arg: traced.append(event))  # type: ignore[func-returns-value]
    try:
        begun.is_set()
    finally:
        sys.settrace(before)
    assert traced
