"""The exit code says what happened."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from fake_task_service import FakeTaskService, info, rich_status, violations
from fix_system import eventually

from atm.rpc import task_service_pb2 as pb

Code = grpc.StatusCode
# Ctrl-C ends it, as in a terminal: jobs in the background, of which the tests may be one, ignore SIGINT
# and hand that down to what they start.
_MAIN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from atm_cli.main import main; sys.exit(main())"
)
ATM = [sys.executable, "-c", _MAIN]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Code.NOT_FOUND, 3),
        (Code.PERMISSION_DENIED, 4),
        (Code.UNAUTHENTICATED, 4),
        (Code.FAILED_PRECONDITION, 5),
        (Code.ALREADY_EXISTS, 5),
        (Code.DEADLINE_EXCEEDED, 6),
        (Code.INVALID_ARGUMENT, 2),
        (Code.INTERNAL, 1),
        (Code.RESOURCE_EXHAUSTED, 1),
    ],
)
def test_an_answer_of_the_server_becomes_an_exit_code_and_one_line(
    atm: Any, service: FakeTaskService, answer: grpc.StatusCode, code: int
) -> None:
    service.answers = [answer]
    outcome = atm("task", "get", "x")
    assert outcome.code == code
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()) == 1


def test_a_command_that_worked_exits_with_0(atm: Any) -> None:
    assert atm("task", "create", "send").code == 0


def test_a_server_that_is_not_there_gives_one_line_with_its_address_and_6(run: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    outcome = run("task", "list", "--server", address)
    assert outcome.code == 6
    assert outcome.out == ""
    [line] = outcome.err.splitlines()
    assert address in line
    assert "atm up" in line


def test_a_server_that_cannot_answer_says_why(atm: Any, service: FakeTaskService) -> None:
    service.answers = [rich_status(Code.UNAVAILABLE, "the database is away", info("STORE_UNAVAILABLE"))] * 5
    outcome = atm("stats")
    assert outcome.code == 6
    assert "the database is away" in outcome.err


def test_a_refused_request_names_each_field_and_exits_with_2(atm: Any, service: FakeTaskService) -> None:
    bad = violations(task_type="is too long", payload="is too big")
    service.answers = [rich_status(Code.INVALID_ARGUMENT, "refused", info("INVALID_REQUEST"), bad)]
    outcome = atm("task", "create", "send")
    assert outcome.code == 2
    assert {"  task_type: is too long", "  payload: is too big"} < set(outcome.err.splitlines())


@pytest.mark.parametrize(
    ("task_type", "code"), [("send", 0), ("fails", 8), ("times_out", 8), ("is_cancelled", 9)]
)
def test_waiting_tells_how_the_task_ended(atm: Any, task_type: str, code: int) -> None:
    assert atm("task", "create", task_type, "--wait", "-o", "name").code == code
    waited = atm("task", "wait", "task-1", "-o", "name")
    assert (waited.code, waited.out) == (code, "task-1\n")
    assert atm("task", "get", "task-1").code == 0


def test_a_wait_that_takes_too_long_shows_the_task_and_exits_with_7(atm: Any) -> None:
    created = atm("task", "create", "stuck", "--wait", "--timeout", "0.2", "-o", "name")
    assert (created.code, created.out) == (7, "task-1\n")
    assert "task-1" in created.err
    assert atm("task", "wait", "task-1", "--timeout", "0").code == 7


def test_cancelling_a_finished_task_is_a_conflict(atm: Any) -> None:
    atm("task", "create", "send", "--wait")
    outcome = atm("task", "cancel", "task-1")
    assert outcome.code == 5
    assert "SUCCESS" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["task", "create", "send", "--payload", "[1]"],
        ["task", "create", "send", "--payload", "{"],
        ["task", "create", "send", "--payload", "@/no/such/file"],
        ["task", "create", "send", "--payload", '{"a": 1}', "a=2"],
        ["task", "create", "send", "a=1", "a=2"],
        ["task", "create", "send", "a:=nope"],
        ["task", "create", "send", "no pair"],
        ["task", "create", "send", "a=\udcff"],
        ["task", "create", "send", "--timeout", "3"],
        ["task", "create", "send", "--wait", "--timeout", "nan"],
        ["task", "create", "send", "--wait", "--timeout", "-1"],
        ["task", "create", "send", "--priority", "urgent"],
        ["task", "create"],
        ["task", "list", "--status", "DONE"],
        ["task", "list", "--page", "0"],
        ["task", "cancel"],
        ["task", "get", "x", "--profile", "nowhere"],
        ["task", "get", "x", "-o", "xml"],
        ["task", "get", "x", "-s", "host:port"],
        ["no-such-command"],
        ["task", "get", "--no-such-option"],
    ],
)
def test_a_command_line_that_makes_no_sense_exits_with_2_and_sends_nothing(
    atm: Any, service: FakeTaskService, arguments: list[str]
) -> None:
    outcome = atm(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err
    assert service.requests == []


def test_a_setting_that_cannot_be_used_is_one_line_and_2(run: Any) -> None:
    outcome = run("db", "upgrade", "--mysql", "nonsense")
    assert outcome.code == 2
    [line] = outcome.err.splitlines()
    assert "--mysql" in line


def test_an_interrupted_wait_exits_with_130_and_says_that_the_task_goes_on(
    address: str, service: FakeTaskService
) -> None:
    command = [*ATM, "task", "create", "stuck", "--wait", "-s", address]
    with _started(command) as process:
        eventually(lambda: service.received(pb.WaitTaskRequest), what="the command has not begun to wait")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "task-1 goes on" in err
    assert "Traceback" not in err


def test_a_reader_that_has_gone_ends_the_command_quietly(atm: Any, address: str) -> None:
    for _ in range(3):
        atm("task", "create", "send")
    command = [*ATM, "task", "list", "-o", "json", "-s", address]
    with _started(command) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(60) == 1
    assert err == ""


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command whose output the test reads; killed at the end, should it go on."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
