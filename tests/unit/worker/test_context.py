"""What a handler is told of its task, how it is told to stop, and what becomes of what it says."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from fake_worker import claimed, task_id
from hypothesis import given
from hypothesis import strategies as st

from atm.errors import TaskCancelled, TaskInterrupted, TaskTimedOut
from atm.service.attempts import Progress
from atm.service.outcomes import Cancelled, HandedBack, TimedOut
from atm.worker.context import Context
from atm.worker.interruption import Interruption, Kind
from atm.worker.log_buffer import MAX_CHARACTERS, MAX_LINES, LogBuffer


@pytest.fixture
def log() -> LogBuffer:
    return LogBuffer()


@pytest.fixture
def context(log: LogBuffer) -> Context:
    return Context(claimed(task_id(), 2), log)


def _lines(log: LogBuffer) -> list[str]:
    return [line.message for line in log.take().lines]


def test_a_handler_knows_its_task(context: Context) -> None:
    assert (context.task_type, context.attempt, context.retry_count) == ("work", 2, 0)
    assert (context.max_retry, context.priority, len(context.task_id)) == (3, 0, 36)


def test_its_lines_go_into_the_history_and_into_the_log_of_the_worker(
    context: Context, log: LogBuffer, caplog: pytest.LogCaptureFixture
) -> None:
    context.logger.debug("too small")
    context.logger.info("%d of %d", 1, 2)
    context.logger.warning("careful")
    assert _lines(log) == ["1 of 2", "WARNING: careful"]
    assert caplog.messages == ["too small", "1 of 2", "careful"]
    assert not [name for name in logging.Logger.manager.loggerDict if name.startswith("atm.task.")]


def test_a_handler_notices_that_it_should_stop_when_it_looks(context: Context) -> None:
    assert not context.cancelled
    context.raise_if_cancelled()
    context.sleep(0)
    context.interrupt(Interruption(Kind.CANCEL, "ann", 0.0))
    assert not context.noticed
    with pytest.raises(TaskCancelled, match="ann"):
        context.raise_if_cancelled()
    assert context.noticed


def test_a_handler_that_sleeps_is_woken(context: Context) -> None:
    begun = Event()

    def sleep() -> None:
        begun.set()
        context.sleep(600)

    with ThreadPoolExecutor(1) as pool:
        sleeper = pool.submit(sleep)
        assert begun.wait(60)
        context.interrupt(Interruption(Kind.TIMEOUT, "", 0.0))
        with pytest.raises(TaskTimedOut):
            sleeper.result(60)


@pytest.mark.parametrize(
    ("kind", "error", "outcome"),
    [
        (Kind.CANCEL, TaskCancelled, Cancelled),
        (Kind.TIMEOUT, TaskTimedOut, TimedOut),
        (Kind.DRAIN, TaskInterrupted, HandedBack),
        (Kind.REVOKED, TaskInterrupted, HandedBack),
    ],
)
def test_each_reason_to_stop_has_its_exception_and_its_end(
    kind: Kind, error: type[TaskInterrupted], outcome: type
) -> None:
    interruption = Interruption(kind, "", 0.0)
    assert type(interruption.exception()) is error
    assert isinstance(interruption.outcome("it was stopped"), outcome)


@given(st.floats(allow_nan=False), st.text(st.characters(blacklist_categories=[])))
def test_any_progress_is_a_share_and_a_text_that_can_be_stored(fraction: float, message: str) -> None:
    log = LogBuffer()
    Context(claimed(task_id()), log).progress(fraction, message)
    progress = log.take().progress
    assert isinstance(progress, Progress)
    assert 0 <= progress.fraction <= 1
    progress.message.encode()


def test_progress_that_is_no_number_is_refused(context: Context, log: LogBuffer) -> None:
    with pytest.raises(ValueError, match="NaN"):
        context.progress(float("nan"))
    assert not log.take()


def test_what_is_said_is_plain_text(log: LogBuffer) -> None:
    class Odd(str):
        def __len__(self) -> int:
            raise RuntimeError("do not look")

    log.line(Odd("odd"))
    log.progress(0.5, Odd("half"))
    report = log.take()
    assert report.progress is not None
    assert {type(report.lines[0].message), type(report.progress.message)} == {str}


def test_an_attempt_says_a_bounded_number_of_lines(log: LogBuffer) -> None:
    for number in range(MAX_LINES + 10):
        log.line(str(number))
    lines = _lines(log)
    assert len(lines) == MAX_LINES
    assert lines[-1].startswith("more than")
    log.line("no more")
    assert not log.take()


def test_an_attempt_says_a_bounded_number_of_characters(log: LogBuffer) -> None:
    for _ in range(MAX_LINES - 1):
        log.line("x" * 10_000)
    lines = _lines(log)
    assert sum(map(len, lines)) <= MAX_CHARACTERS + 200
    assert lines[-1].startswith("more than")


def test_what_could_not_be_stored_comes_first_the_next_time(log: LogBuffer) -> None:
    log.line("1")
    log.progress(0.1, "old")
    taken = log.take()
    log.line("2")
    log.put_back(taken)
    report = log.take()
    assert [line.message for line in report.lines] == ["1", "2"]
    assert report.progress == Progress(0.1, "old")
    log.progress(0.2, "new")
    log.put_back(report)
    assert log.take().progress == Progress(0.2, "new")


def test_what_is_logged_beyond_the_bound_of_an_attempt_does_not_go_into_the_log_of_the_worker(
    context: Context, log: LogBuffer, caplog: pytest.LogCaptureFixture
) -> None:
    child = context.logger.getChild("part")
    for number in range(MAX_LINES + 500):
        (child if number % 2 else context.logger).info("%d", number)
        context.logger.debug("%d is not counted", number)
    assert len(_lines(log)) == MAX_LINES
    said = [message for message in caplog.messages if "not counted" not in message]
    assert said[:-1] == [str(number) for number in range(MAX_LINES - 1)]
    # What is cut is said, once.
    assert context.task_id in said[-1]
    assert "logged more than is kept" in said[-1]
    assert len(caplog.messages) < 2 * MAX_LINES + 1


def test_another_attempt_in_the_same_worker_is_heard_again(caplog: pytest.LogCaptureFixture) -> None:
    noisy, other = (Context(claimed(task_id()), LogBuffer()) for _ in range(2))
    for _ in range(MAX_LINES + 1):
        noisy.logger.info("noise")
    caplog.clear()
    noisy.logger.info("noise")
    other.logger.info("heard")
    assert caplog.messages == ["heard"]
