"""What clients and handlers say does not become lines of a server's or a worker's log."""

from __future__ import annotations

import re

from fix_system import System, eventually

from atm.escape import is_unsafe
from atm.logs import CONTINUED

FORGED = "2026-01-01 00:00:00,000 INFO    atm.server.app: all is well"
HOSTILE = f"\x1b[31mred\x1b]0;title\x07 \x9b2J \u202eevil \x7f\r\u2028\u2029\x85\n{FORGED}"
#: How a line of a server's log begins, and one of a worker's: Dramatiq's own.
SERVER_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")
WORKER_LINE = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] ")


def _check(output: str, line: re.Pattern[str]) -> None:
    for text in output.removesuffix("\n").split("\n"):
        assert line.match(text) or text.startswith(CONTINUED), text
        assert not text.startswith(FORGED)
        assert not any(is_unsafe(char) for char in text), repr(text)


def test_no_text_of_a_client_or_a_handler_is_taken_for_a_line(new_system: System) -> None:
    server = new_system.start_server("--id", f"evil\n{FORGED}")
    worker = new_system.start_worker()
    client = new_system.client()
    task = client.create_task("log_hostile", {"text": HOSTILE})
    client.wait_for_task(task.task_id, 60)
    eventually(lambda: "an exception ended" in worker.output())
    assert worker.output().count("said") >= 2
    assert server.terminate() == 0
    assert worker.terminate() == 0
    assert "has stopped" in server.output()
    _check(server.output(), SERVER_LINE)
    _check(worker.output(), WORKER_LINE)
