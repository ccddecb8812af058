"""`atm demo` checks what it shows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from fake_task_service import FakeTaskService

from atm.client import TaskLog
from atm_cli.demo_cases import check_path
from atm_cli.demo_run import CaseFailed


def path(*states: str) -> list[TaskLog]:
    pairs = pairwise(states)
    return [TaskLog(str(n), "t", "STATE_CHANGE", before, after) for n, (before, after) in enumerate(pairs)]


def test_the_eight_cases_pass_on_a_server_that_keeps_its_promises(atm: Any, service: FakeTaskService) -> None:
    atm("task", "create", "other")
    outcome = atm("demo")
    assert outcome.code == 0
    assert outcome.out.rstrip().endswith("8 of 8 cases passed")
    assert outcome.out.count("✓") == 8
    assert "\x1b" not in outcome.out


@pytest.mark.parametrize(
    ("break_it", "passed"),
    [
        # No worker: the last case alone.
        (lambda service: service.workers.clear(), 7),
        # A history that starts in the middle: the sixth alone.
        (lambda service: setattr(service, "_log", lambda *_: None), 7),
    ],
)
def test_a_broken_promise_is_told_and_makes_the_exit_code_1(
    atm: Any, service: FakeTaskService, break_it: Any, passed: int
) -> None:
    break_it(service)
    outcome = atm("demo")
    assert outcome.code == 1
    assert f"{passed} of 8 cases passed" in outcome.out
    assert outcome.out.count("✗") == 8 - passed


def test_a_server_that_is_not_there_is_one_line(run: Any) -> None:
    outcome = run("demo", "--server", "127.0.0.1:1")
    assert outcome.code == 6
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 1


def test_a_legal_history_is_accepted_with_retries_and_remarks() -> None:
    remark = TaskLog("9", "t", "INFO", "PROCESSING", "PROCESSING", "hello")
    states = path("", "PENDING", "PROCESSING", "PENDING", "PROCESSING", "SUCCESS")
    check_path([*states[:2], remark, *states[2:], TaskLog("10", "t", "INFO")], "SUCCESS")


@pytest.mark.parametrize(
    "logs",
    [
        [],
        path("", "PENDING", "SUCCESS"),
        path("PENDING", "PROCESSING", "SUCCESS"),
        path("", "PENDING", "PROCESSING"),
        path("", "PENDING", "PROCESSING", "SUCCESS", "PENDING"),
        path("", "PENDING") + path("PROCESSING", "SUCCESS"),
    ],
)
def test_a_history_with_a_gap_or_an_illegal_move_is_refused(logs: list[TaskLog]) -> None:
    with pytest.raises(CaseFailed):
        check_path(logs, "SUCCESS")
