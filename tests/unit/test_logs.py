"""One event is one line of the log, whatever its text holds; a traceback is marked as what it is."""

from __future__ import annotations

import io
import logging
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm import logs
from atm.escape import is_unsafe
from atm.logs import CONTINUED, Occasionally, VisibleFormatter

FORGED = "2026-01-01 00:00:00,000 INFO    atm.server.app: all is well"
HOSTILE = f"\x1b[31mred\x1b]0;title\x07 \x9b2J \u202eevil\u2066 \x7f\x00\r\u2028\u2029\x85\n{FORGED}"
#: Dramatiq's, for instance: with the name of the thread, which is anybody's text, too.
FORMAT = "[%(levelname)s] [%(threadName)s] [%(name)s] %(message)s"


def _lines(text: str) -> list[str]:
    return text.split("\n")


def _formatted(message: str, error: BaseException | None = None, name: str = "atm") -> str:
    record = logging.LogRecord(name, logging.INFO, "file.py", 1, "%s", (message,), None)
    record.exc_info = (type(error), error, error.__traceback__) if error is not None else None
    return VisibleFormatter(logging.Formatter(FORMAT)).format(record)


@given(st.text(), st.text())
def test_nothing_in_a_message_makes_a_line_or_moves_a_cursor(message: str, name: str) -> None:
    text = _formatted(message + HOSTILE, name=name)
    assert len(_lines(text)) == 1
    assert not any(is_unsafe(char) for char in text)


@given(st.text())
def test_every_line_of_a_traceback_is_marked(message: str) -> None:
    try:
        raise ValueError(message + HOSTILE)
    except ValueError as error:
        first, *others = _lines(_formatted("it failed", error))
    assert first == "[INFO] [MainThread] [atm] it failed"
    assert others[0] == f"{CONTINUED}Traceback (most recent call last):"
    assert all(line.startswith(CONTINUED) for line in others)
    assert not any(is_unsafe(char) for line in others for char in line)


def test_a_plain_line_is_as_before() -> None:
    assert _formatted("é 漢 \\n [x]") == "[INFO] [MainThread] [atm] é 漢 \\n [x]"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a process writes that has a root handler of its own."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(FORMAT))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr(logging, "lastResort", logging.StreamHandler(stream))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    logs.make_visible()
    # Twice is once.
    logs.make_visible()
    return stream


def test_what_nobody_catches_is_logged_like_everything_else(log: io.StringIO) -> None:
    def fail() -> None:
        raise ValueError(HOSTILE)

    thread = threading.Thread(target=fail, name=HOSTILE)
    thread.start()
    thread.join()
    error = ValueError(HOSTILE)
    sys.excepthook(ValueError, error, None)
    lines = _lines(log.getvalue().removesuffix("\n"))
    assert sum(line.startswith("[CRITICAL] ") for line in lines) == 2
    assert all(line.startswith(("[CRITICAL] ", CONTINUED)) for line in lines)
    assert not any(is_unsafe(char) for line in lines for char in line)


def test_what_is_logged_without_a_handler_is_made_visible_too(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logging.getLogger("somebody").warning(HOSTILE)
    assert len(_lines(log.getvalue())) == 2
    assert "\x1b" not in log.getvalue()


def test_one_of_many_like_lines_is_logged_and_the_others_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    says = Occasionally(60)
    assert [says.count() for _ in range(3)] == [1, 0, 0]
    now = 60.0
    assert [says.count() for _ in range(2)] == [3, 0]
