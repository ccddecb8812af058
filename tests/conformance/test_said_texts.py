"""Whatever a handler says can be stored, on each database, and hides nothing that it said beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from make_tasks import Tasks

from atm.models import PROGRESS_MESSAGE_LENGTH
from atm.service.attempts import AttemptService, End
from atm.service.history import LogListing
from atm.service.outcomes import (
    MAX_ERROR_MESSAGE,
    Cancelled,
    Failed,
    HandedBack,
    Outcome,
    Succeeded,
    TimedOut,
    WorkerLost,
)
from atm.service.task_service import TaskService
from atm.states import LogType, Reason, Status
from atm.store.database import Database
from atm.store.logs import MAX_MESSAGE
from atm.values import storable
from atm.worker.log_buffer import LogBuffer
from atm.worker.payloads import encode_result

TEXTS = {
    "surrogates": "caf\udce9.txt \ud800",
    "a pair of them": "\ud83d\ude00",
    "nul": "a\0b",
    "control characters": "".join(map(chr, range(32))),
    "every plane": "é€😀\U0010ffff\ufffe\uffff",
    "combining": "e\u0301" * 300,
    "many bytes": "😀" * 20_000,
    "long": "x" * 3_000_000,
    "long and unstorable": "\udcff" * 50_000,
    "empty": "",
    "blank": " \n\x1c\x85\u2028",
    "quotes": "'\"\\%s%%:name?",
}


@pytest.fixture
def attempts(database: Database) -> AttemptService:
    return AttemptService(database, "w")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_lines_and_progress_are_stored_while_it_runs_and_with_its_end(
    made: Tasks, attempts: AttemptService, service: TaskService, text: str
) -> None:
    task_id, log = made.running(), LogBuffer()

    def say() -> None:
        for line in ("before", text, "after"):
            log.line(line)
        log.progress(0.5, text)

    say()
    assert attempts.report(task_id, 1, log.take())
    say()
    assert attempts.finish(task_id, 1, Succeeded({"a": "b"}), log.take()) is Status.SUCCESS
    lines = [row.message for row in service.logs(LogListing(task_id)).rows if row.log_type == LogType.INFO]
    assert [lines[0], lines[2], lines[3], lines[5]] == ["before", "after"] * 2
    assert lines[1] == lines[4]
    assert lines[1] == text or storable(text) != text or len(text) > MAX_MESSAGE
    assert made.get(task_id).progress_message == storable(text)[:PROGRESS_MESSAGE_LENGTH]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("retryable", [True, False])
def test_how_an_attempt_failed_is_stored(
    made: Tasks, attempts: AttemptService, service: TaskService, text: str, retryable: bool
) -> None:
    task_id = made.running()
    failed = Failed(Reason.HANDLER_ERROR, text, text, retryable)
    status = attempts.finish(task_id, 1, failed)
    assert status is (Status.PENDING if retryable else Status.FAILED)
    (last, *_) = [
        row
        for row in service.logs(LogListing(task_id)).rows
        if row.log_type in (LogType.RETRY, LogType.ERROR)
    ]
    assert last.message
    assert len(made.get(task_id).error_message) <= MAX_ERROR_MESSAGE


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("end", [Cancelled, TimedOut, HandedBack, WorkerLost])
def test_how_an_attempt_ended_otherwise_is_stored(
    made: Tasks, attempts: AttemptService, text: str, end: Callable[[str], Outcome]
) -> None:
    task_id = made.running(timeout_ms=1000)
    assert attempts.finish(task_id, 1, end(text)) is not None


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if storable(text) == text])
def test_a_result_comes_back_as_it_was(made: Tasks, attempts: AttemptService, name: str) -> None:
    task_id, text = made.running(), TEXTS[name]
    result = {"text": text[:300_000], text[:300]: "as a key"}
    assert attempts.finish(task_id, 1, Succeeded(encode_result(result))) is Status.SUCCESS
    assert made.get(task_id).result == result


def test_what_several_attempts_say_is_stored_together(
    made: Tasks, attempts: AttemptService, service: TaskService
) -> None:
    """One that is hard to store keeps nothing of the others from being stored."""
    ids = [made.running() for _ in TEXTS]
    ends = []
    for task_id, text in zip(ids, TEXTS.values(), strict=True):
        log = LogBuffer()
        log.line(text)
        log.progress(0.5, text)
        ends.append(End(task_id, 1, Succeeded({}), log.take()))
    assert attempts.finish_all(ends) == [Status.SUCCESS] * len(ids)
    for task_id in ids:
        assert [row.log_type for row in service.logs(LogListing(task_id)).rows].count(LogType.INFO) == 1
