"""Whatever a handler says, it succeeds, the lines beside it are kept, and all of it can be stored."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
from beside import Beside
from hypothesis import given, settings
from hypothesis import strategies as st

from atm.errors import TaskInterrupted
from atm.service.outcomes import Succeeded
from atm.worker.log_buffer import MAX_CHARACTERS


class _Raises:
    """An object whose text is an exception, of any kind."""

    def __init__(self, error: Callable[[], BaseException]) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error()

    __repr__ = __str__

    def __format__(self, how: str) -> str:
        raise self._error()


class _NotText:
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class _Text(str):
    """Text that is not to be looked at."""

    def _no(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("do not look")

    __len__ = __format__ = __mod__ = __getitem__ = encode = replace = __add__ = __eq__ = __hash__ = _no  # type: ignore[assignment]


class _Error(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    @property
    def __cause__(self) -> NoReturn:
        raise RuntimeError("no cause")


def _circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


SAID: dict[str, Callable[[], Any]] = {
    "surrogates": lambda: "caf\udce9.txt \ud800",
    "a pair of them": lambda: "\ud83d\ude00",
    "nul": lambda: "a\0b",
    "control characters": lambda: "".join(map(chr, range(32))),
    "emoji": lambda: "😀" * 300,
    "long": lambda: "x" * 3_000_000,
    "long and unstorable": lambda: "\udcff" * 50_000,
    "empty": str,
    "percent": lambda: "100 % %s %d %",
    "braces": lambda: "{} {0} {x!r}",
    "odd text": lambda: _Text("odd"),
    "bytes": lambda: b"\xff\0",
    "none": lambda: None,
    "too large a number": lambda: 10**5000,
    "raises": lambda: _Raises(RuntimeError),
    "recurses": lambda: _Raises(RecursionError),
    "exits": lambda: _Raises(SystemExit),
    "interrupts": lambda: _Raises(KeyboardInterrupt),
    "ends a generator": lambda: _Raises(GeneratorExit),
    "raises what raises": lambda: _Raises(_Error),
    "not text": _NotText,
    "an exception": _Error,
    "circle": _circle,
    "a class": lambda: _Raises,
}


def _log_as_message(context: Any, what: Any) -> None:
    context.logger.info(what)


def _log_as_argument(context: Any, what: Any) -> None:
    context.logger.info("said %s", what)


def _log_formatted_wrongly(context: Any, what: Any) -> None:
    context.logger.info("%d %d", what)


def _log_with_too_many_arguments(context: Any, what: Any) -> None:
    context.logger.info("said", what, what)


def _log_by_name(context: Any, what: Any) -> None:
    context.logger.info("said %(what)s", {"what": what})


def _log_a_warning(context: Any, what: Any) -> None:
    context.logger.warning(what)


def _log_with_extra(context: Any, what: Any) -> None:
    context.logger.info("said", extra={"what": what})


def _log_with_a_stack(context: Any, what: Any) -> None:
    context.logger.error("said %s", what, stack_info=True)


def _log_an_exception(context: Any, what: Any) -> None:
    try:
        raise ValueError(what) from _Error()
    except ValueError:
        context.logger.exception(what)


def _log_an_exception_that_is_given(context: Any, what: Any) -> None:
    context.logger.error("said", exc_info=what if isinstance(what, BaseException) else ValueError(what))


def _log_by_a_child(context: Any, what: Any) -> None:
    context.logger.getChild("part").getChild("of it").info(what)


def _log_by_an_adapter(context: Any, what: Any) -> None:
    logging.LoggerAdapter(context.logger, {"x": what}).info(what)


def _tell_progress(context: Any, what: Any) -> None:
    context.progress(0.5, what)


LINES = [
    _log_as_message,
    _log_as_argument,
    _log_formatted_wrongly,
    _log_with_too_many_arguments,
    _log_by_name,
    _log_a_warning,
    _log_with_extra,
    _log_with_a_stack,
    _log_an_exception,
    _log_an_exception_that_is_given,
    _log_by_a_child,
    _log_by_an_adapter,
]


class _Strict(logging.Handler):
    """A handler of the worker's own log that does not forgive."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)


@contextmanager
def _strict_log() -> Iterator[None]:
    """Has lines go to such a handler, and not to pytest, whose reports cannot hold them."""
    log = logging.getLogger("atm.task")
    before, log.handlers, log.propagate = log.handlers, [_Strict()], False
    try:
        yield
    finally:
        log.handlers, log.propagate = before, True


@pytest.fixture
def beside() -> Iterator[Beside]:
    made = Beside()
    yield made
    made.close()


def _said(beside: Beside, how: str, say: Callable[[Any], None]) -> Any:
    """The report of a task that says this between two lines."""

    def plain(context: Any, payload: Any) -> str:
        context.logger.info("before")
        say(context)
        context.logger.info("after")
        return "ok"

    async def on_the_loop(context: Any, payload: Any) -> str:
        return plain(context, payload)

    beside.handle("says", plain if how == "plain" else on_the_loop)
    attempt = beside.attempt("says")
    with _strict_log():
        beside.worker.process(attempt)
    assert beside.outcome(attempt) == Succeeded({"result": "ok"})
    (report,) = beside.reports("says")
    return report


@pytest.mark.parametrize("what", SAID)
@pytest.mark.parametrize("how", ["plain", "async"])
@pytest.mark.parametrize("way", LINES, ids=lambda way: way.__name__.strip("_"))
def test_whatever_a_line_is_made_of_it_is_a_line_and_those_beside_it_are_kept(
    beside: Beside, way: Callable[[Any, Any], None], how: str, what: str
) -> None:
    report = _said(beside, how, lambda context: way(context, SAID[what]()))
    lines = [line.message for line in report.lines]
    assert len(lines) == 3
    assert (lines[0], lines[2]) == ("before", "after")
    assert {type(line) for line in lines} == {str}
    assert sum(map(len, lines)) < MAX_CHARACTERS
    beside.check_those_after()


@pytest.mark.parametrize("what", SAID)
@pytest.mark.parametrize("how", ["plain", "async"])
def test_whatever_progress_is_told_with_it_can_be_stored(beside: Beside, how: str, what: str) -> None:
    report = _said(beside, how, lambda context: _tell_progress(context, SAID[what]()))
    assert [line.message for line in report.lines] == ["before", "after"]
    assert type(report.progress.message) is str
    report.progress.message.encode()


@pytest.mark.parametrize("fraction", [-5, 10**400, -(10**400), float("inf"), True, 0.25])
def test_any_number_is_a_progress(beside: Beside, fraction: float) -> None:
    report = _said(beside, "plain", lambda context: context.progress(fraction))
    assert 0.0 <= report.progress.fraction <= 1.0
    assert type(report.progress.fraction) is float


def test_a_line_that_cannot_be_formatted_says_so_and_what_it_was(beside: Beside) -> None:
    report = _said(beside, "plain", lambda context: context.logger.info("%d rows", "no number"))
    assert report.lines[1].message == "%d rows (its arguments cannot be shown: TypeError)"


@given(st.text(st.characters(blacklist_categories=[])), st.text(), st.integers(10, 50))
@settings(max_examples=60, deadline=None)
def test_any_text_with_any_arguments_is_a_line(text: str, argument: str, level: int) -> None:
    beside = Beside()
    report = _said(beside, "plain", lambda context: context.logger.log(level, text, argument))
    assert len(report.lines) == (3 if level >= logging.INFO else 2)


def test_a_handler_that_is_told_to_stop_while_its_line_is_made_stops(beside: Beside) -> None:
    def function(context: Any, payload: Any) -> None:
        context.logger.info("%s", _Raises(TaskInterrupted))
        sys.exit("it should have stopped")

    beside.handle("stops", function)
    attempt = beside.attempt("stops")
    beside.worker.process(attempt)
    assert "TaskInterrupted" in str(beside.outcome(attempt))
