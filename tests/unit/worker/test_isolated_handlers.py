"""An attempt in a process of its own ends as one in the worker's does, whatever its handler does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from beside import Beside

from atm.service.outcomes import Failed, Succeeded
from atm.states import Reason
from atm.worker.executors.coroutine import CoroutineExecutor
from atm.worker.executors.process import ProcessExecutor
from atm.worker.executors.thread import ThreadExecutor

# Not imported here: what the module sets would be set for every test.
PLAIN, ASYNC = "alone_plain", "alone_async"
UNSTORABLE = "caf\udce9 \0 \ud800"

#: What the handler does, and the end: a result, or a reason, whether it is retryable, and the words.
ENDS: dict[str, dict[str, str] | tuple[Reason, bool, str]] = {
    "sees": {"tenant": "nobody", "third": "0.3333333333333333333333333333"},
    "says": {"result": "ok"},
    "exits": (Reason.HANDLER_ERROR, True, "SystemExit: 3"),
    "interrupts": (Reason.HANDLER_ERROR, True, "KeyboardInterrupt: "),
    "ends a generator": (Reason.HANDLER_ERROR, True, "GeneratorExit: "),
    "has no text": (Reason.HANDLER_ERROR, True, "_SilentError: (its text cannot be shown: RuntimeError)"),
    "has an unstorable text": (Reason.HANDLER_ERROR, True, "ValueError: caf"),
    "cannot be copied": (Reason.HANDLER_ERROR, True, "_UnpicklableError: cannot be copied"),
    "raises a group": (Reason.HANDLER_ERROR, True, "BaseExceptionGroup: several"),
    "never": (Reason.HANDLER_ERROR, False, "NonRetryableError: never"),
    "returns nan": (Reason.INVALID_RESULT, False, "the result cannot be kept: a[0]: is nan"),
    "returns bytes in a model": (Reason.INVALID_RESULT, False, "the result cannot be kept: raw: Unicode"),
    "returns a circle": (Reason.INVALID_RESULT, False, "the result cannot be kept: result[0]: is within"),
    "returns surrogates": (Reason.INVALID_RESULT, False, "the result cannot be kept: a: is not valid"),
    "returns nul": {"result": "a\0b"},
}
ENDS_ASYNC: dict[str, dict[str, str] | tuple[Reason, bool, str]] = {
    "exits in a task": (Reason.HANDLER_ERROR, True, "SystemExit: 3"),
    "exits in a callback": (Reason.HANDLER_ERROR, True, "SystemExit: 3"),
    "stops the loop": (Reason.HANDLER_ERROR, True, "RuntimeError: the handler called loop.stop()"),
    "leaves a task": {"result": "left True"},
}
CASES = [(PLAIN, what, end) for what, end in ENDS.items()]
CASES += [(ASYNC, what, end) for what, end in {**ENDS, **ENDS_ASYNC}.items()]


def _elsewhere(context: Any, payload: Any) -> NoReturn:
    raise AssertionError("the process has the handler")


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Beside]:
    monkeypatch.setenv("ATM_HANDLERS", "isolated_handlers")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    executors = {"thread": ThreadExecutor(), "async": CoroutineExecutor(), "process": ProcessExecutor()}
    made = Beside(executors=executors)
    yield made
    made.close()


@pytest.mark.parametrize(("task_type", "what", "end"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
def test_an_isolated_handler_ends_as_others_do(
    beside: Beside, task_type: str, what: str, end: dict[str, str] | tuple[Reason, bool, str]
) -> None:
    beside.worker.payload = {"do": what}
    outcome = beside.run(_elsewhere, task_type=task_type, isolation="process")
    if isinstance(end, dict):
        assert outcome == Succeeded(end)
    else:
        assert isinstance(outcome, Failed), outcome
        assert (outcome.reason, outcome.retryable) == end[:2]
        assert outcome.error.startswith(end[2])


@pytest.mark.parametrize("task_type", [PLAIN, ASYNC])
def test_what_an_isolated_handler_says_is_kept_and_in_its_order(beside: Beside, task_type: str) -> None:
    beside.worker.payload = {"do": "says"}
    beside.run(_elsewhere, task_type=task_type, isolation="process")
    (report,) = beside.reports(task_type)
    lines = [line.message for line in report.lines]
    assert lines[:2] == ["before", UNSTORABLE]
    assert lines[2:4] == [
        "%d rows (its arguments cannot be shown: TypeError)",
        "%s (its arguments cannot be shown: RuntimeError)",
    ]
    assert lines[4].startswith("WARNING: xxx")
    assert len(lines[4]) < 20_000
    assert lines[5:] == ["after"]
    assert report.progress is not None
    report.progress.message.encode()
