"""What a caller does wrong is said in the server's log now and then, in one line, whatever it is."""

from __future__ import annotations

import logging
import re

import pytest

from atm.server.callers_faults import CallersFaults


@pytest.fixture
def logger(caplog: pytest.LogCaptureFixture) -> logging.Logger:
    logger = logging.Logger("grpc", logging.DEBUG)
    logger.addFilter(CallersFaults())
    logger.addHandler(caplog.handler)
    return logger


@pytest.mark.parametrize(
    ("line", "arguments", "said"),
    [
        ("Invalid encoding on %s", (b"\xff\n",), r"values of metadata were not UTF-8; .* b'\\xff\\n'"),
        ("ExecuteBatchError raised in core by servicer method [/a/b]", (), "their callers were gone; .*/a/b"),
    ],
)
def test_a_fault_of_callers_is_one_line_for_many(
    logger: logging.Logger,
    caplog: pytest.LogCaptureFixture,
    line: str,
    arguments: tuple[object, ...],
    said: str,
) -> None:
    for _ in range(100):
        try:
            raise ValueError("in gRPC")
        except ValueError:
            logger.exception(line, *arguments)
    (record,) = caplog.records
    assert re.search(said, record.getMessage())
    assert record.exc_info is None
    assert record.levelname == "WARNING"
    caplog.clear()
    logger.error("something %s", "else", exc_info=ValueError("it"))
    assert caplog.messages == ["something else"]
    assert caplog.records[0].exc_info is not None


def test_it_says_what_the_last_one_was(logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    logger.error("Invalid encoding on %s", b"\xff\n")
    assert caplog.messages == [
        r"1 values of metadata were not UTF-8; the last: Invalid encoding on b'\xff\n'"
    ]
