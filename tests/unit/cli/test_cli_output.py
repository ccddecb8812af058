"""Data on stdout in the form that was asked for; words on stderr."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from fake_task_service import STATUSES, FakeTaskService

from atm.rpc import task_service_pb2 as pb

HOSTILE = "\x1b[31mred\x1b[0m \x9b2J [bold]x[/bold] \u202eevil\u2066 tab\tend\r\nnext \x07 \x85 é 漢"
NASTY = [chr(n) for n in (*range(32), *range(0x7F, 0xA0), 0x202E, 0x2066, 0x2028) if n != 0x0A]


@pytest.fixture
def hostile(service: FakeTaskService, atm: Any) -> str:
    """The id of a task whose every text tries to take over the terminal."""
    atm("task", "create", "send", f"x={HOSTILE}")
    task = service.tasks["task-1"]
    task.error_message = task.progress_message = task.task_type = task.worker_id = HOSTILE
    task.result["r"] = HOSTILE
    service.logs["task-1"][0].message = HOSTILE
    return "task-1"


def test_a_table_in_a_pipe_is_aligned_whole_and_plain(atm: Any, service: FakeTaskService) -> None:
    long_type = "a_type_with_a_name_" * 20
    atm("task", "create", "send", "-o", "name")
    atm("task", "create", long_type)
    outcome = atm("task", "list")
    header, first, second = outcome.out.splitlines()
    assert header.split() == ["ID", "TYPE", "STATUS", "PRIORITY", "RETRIES", "CREATED", "TOOK"]
    assert long_type in first
    assert header.index("STATUS") == first.index("PENDING") == second.index("PENDING")
    assert "2026-01-31T12:00:00Z" in first
    assert "\x1b" not in outcome.out
    assert outcome.err == ""


def test_wide_shows_more_columns(atm: Any) -> None:
    atm("task", "create", "send", "--wait")
    assert "WORKER" in atm("task", "list", "-o", "wide").out
    assert "WORKER" not in atm("task", "list").out
    assert "Worker:" in atm("task", "get", "task-1", "-o", "wide").out


def test_details_show_payload_result_and_every_line_of_an_error(atm: Any) -> None:
    out = atm("task", "create", "fails", "to=me", "n:=[1, 2]", "--wait").out.splitlines()
    assert "Status:    FAILED" in out
    assert "Payload:   n = [1,2]" in out
    assert "           to = me" in out
    assert "Error:     it broke" in out
    assert "           badly" in out


def test_json_is_one_document_and_jsonl_a_line_for_each(atm: Any) -> None:
    atm("task", "create", "send", "é=ü")
    atm("task", "create", "send")
    page = json.loads(atm("task", "list", "-o", "json", "--page-size", "1").out)
    assert (page["total"], page["page"], page["page_size"], len(page["tasks"])) == (2, 1, 1, 1)
    lines = atm("task", "list", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["task_id"] for line in lines] == ["task-2", "task-1"]
    task = json.loads(atm("task", "get", "task-1", "-o", "json").out)
    assert (task["payload"], task["created_at"]) == ({"é": "ü"}, "2026-01-31T12:00:00.123456Z")


def test_yaml_says_what_json_says(atm: Any, hostile: str) -> None:
    as_json = json.loads(atm("task", "list", "-o", "json").out)
    assert yaml.safe_load(atm("task", "list", "-o", "yaml").out) == as_json


def test_names_are_ids_a_line_each(atm: Any) -> None:
    assert atm("task", "create", "send", "-o", "name").out == "task-1\n"
    assert atm("task", "list", "-o", "name").out == "task-1\n"
    assert atm("worker", "list", "-o", "name").out == "w-1\n"


def test_an_empty_list_is_valid_json_and_words_for_people(atm: Any) -> None:
    outcome = atm("task", "list")
    assert (outcome.out, outcome.code) == ("", 0)
    assert "no task" in outcome.err
    assert json.loads(atm("task", "list", "-o", "json").out)["tasks"] == []
    assert atm("task", "list", "-o", "jsonl").out == ""


def test_how_many_pages_there_are_is_said_on_stderr(atm: Any) -> None:
    for _ in range(3):
        atm("task", "create", "send")
    outcome = atm("task", "list", "--page-size", "2", "-o", "name")
    assert len(outcome.out.splitlines()) == 2
    assert "page 1 of 2; 3 tasks" in outcome.err


def test_the_filters_of_a_list_reach_the_server(atm: Any, service: FakeTaskService) -> None:
    atm("task", "list", "--status", "success", "--priority", "HIGH", "--type", "send", "--page", "2")
    request = service.requests[-1]
    assert (request.status, request.priority, request.task_type, request.page) == ("SUCCESS", 1, "send", 2)


def test_logs_workers_and_statistics_have_tables_and_json(atm: Any) -> None:
    atm("task", "create", "send", "--wait")
    assert "PROCESSING" in atm("task", "logs", "task-1").out
    assert [row["to_status"] for row in json.loads(atm("task", "logs", "task-1", "-o", "json").out)][
        -1
    ] == "SUCCESS"
    assert "1/8" in atm("worker", "list").out
    assert json.loads(atm("worker", "list", "-o", "json").out)[0]["task_types"] == ["a", "b"]
    assert "tasks.SUCCESS" in atm("stats").out
    assert set(json.loads(atm("stats", "-o", "json").out)["tasks_by_status"]) == set(STATUSES)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("form", ["table", "wide", "json", "jsonl", "yaml", "name"])
@pytest.mark.parametrize("command", [["get"], ["logs"], ["wait"]])
def test_text_of_a_task_never_reaches_the_terminal_unescaped(
    atm: Any, hostile: str, monkeypatch: pytest.MonkeyPatch, command: list[str], form: str, terminal: bool
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "dumb")
    outcome = atm("task", *command, hostile, "-o", form)
    shown = outcome.out + (outcome.err if not terminal else "")
    assert [char for char in NASTY if char in shown] == []
    if form in ("table", "wide") and not (terminal and command == ["logs"]):  # those lines are folded
        assert "[bold]x[/bold]" in shown
        assert "é 漢" in shown


def test_an_error_of_the_server_is_escaped_too(atm: Any, service: FakeTaskService) -> None:
    outcome = atm("task", "get", "\x1b[2J\u202e")
    assert outcome.code == 3
    assert [char for char in NASTY if char in outcome.err] == []


def test_a_terminal_gets_colours_by_state(atm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    atm("task", "create", "send", "--wait")
    assert "\x1b[32mSUCCESS" in atm("task", "list").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in atm("task", "list").out


def test_on_a_narrow_terminal_only_free_text_is_cut(atm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    atm("task", "create", "a_type_with_a_name_" * 20)
    header, row = atm("task", "list").out.splitlines()
    assert max(len(header), len(row)) <= 80
    assert row.split()[0] == "task-1"
    assert "2026-01-31T12:00:00Z" in row
    assert "…" in row


def test_a_terminal_sees_a_bar_with_the_progress_while_waiting(
    atm: Any, hostile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    outcome = atm("task", "create", "send", "--wait", "-o", "name")
    assert outcome.out == "task-2\n"
    assert "PENDING" in outcome.err
    assert "50% half way" in outcome.err


def test_what_a_page_leaves_out_is_said(atm: Any, service: FakeTaskService) -> None:
    for _ in range(2):
        atm("task", "create", "send")
    service.tasks["task-1"].values_omitted = True
    shown = atm("task", "list", "-o", "json")
    assert shown.code == 0
    assert "1 tasks are without their payload or result" in shown.said
    assert [request.view for request in service.received(pb.ListTasksRequest)] == [pb.ListTasksRequest.FULL]


def test_a_table_asks_for_no_payloads_and_results(atm: Any, service: FakeTaskService) -> None:
    assert atm("task", "list").code == 0
    assert [request.view for request in service.received(pb.ListTasksRequest)] == [pb.ListTasksRequest.BASIC]
