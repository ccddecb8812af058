"""Many large payloads and results at the same moment: a packet to the database has its limit."""

from __future__ import annotations

import pytest
from history import check_history
from sqlalchemy import select

from atm.batching.group_commit import GroupCommit
from atm.service.attempts import AttemptService, ChangeResult, Claim, End, Line, Report, size_of
from atm.service.outcomes import Succeeded
from atm.service.task_service import TaskService
from atm.service.validation import MAX_PAYLOAD_BYTES, NewTask
from atm.states import Status
from atm.store.database import Database
from atm.store.tasks import TASK
from atm.worker.log_buffer import MAX_CHARACTERS, LogBuffer

#: Together more than the 16 MB of a packet to MariaDB, however they are quoted.
COUNT = 24


@pytest.mark.parametrize("text", ["x", "\x00", '"', "🧨"], ids=["plain", "nul", "quote", "wide"])
def test_large_payloads_that_come_together_are_all_stored(
    creation: TaskService, database: Database, text: str
) -> None:
    value = text * (MAX_PAYLOAD_BYTES // len(text.encode()) - 1)
    tasks = [creation.prepare(NewTask("example_task", payload={"k": value})) for _ in range(COUNT)]
    replies = creation._commits.ask(tasks)
    assert [reply.result().task_id for reply in replies] == [task.task_id for task in tasks]
    payloads = database.read(lambda c: c.execute(select(TASK.c.payload)).scalars().all())
    assert payloads == [{"k": value}] * COUNT


def test_large_results_that_come_together_are_all_stored(creation: TaskService, database: Database) -> None:
    value = '"' * (MAX_PAYLOAD_BYTES - 1)
    made = [creation.create(NewTask("example_task")).task_id for _ in range(COUNT)]
    attempts = AttemptService(database, "w")
    ends: GroupCommit[Claim | End, ChangeResult] = GroupCommit(
        database.write, attempts.apply, name="ends", insist=lambda: True, size=size_of
    )
    ends.start()
    for reply in ends.ask([Claim(task_id, 1) for task_id in made]):
        assert reply.result() is not None
    said = Report([Line("'" * MAX_CHARACTERS, creation.prepare(NewTask("example_task")).created_at)])
    replies = ends.ask([End(task_id, 1, Succeeded({"k": value}), said) for task_id in made])
    assert [reply.result() for reply in replies] == [Status.SUCCESS] * COUNT
    ends.close()
    results = database.read(lambda c: c.execute(select(TASK.c.result)).scalars().all())
    assert results == [{"k": value}] * COUNT
    check_history(database)


def test_a_handler_cannot_say_more_than_can_be_stored() -> None:
    log = LogBuffer()
    for _ in range(1000):
        log.line("x" * 20_000)
    lines = log.take().lines
    assert sum(len(line.message) for line in lines) < 1.1 * MAX_CHARACTERS
    assert lines[-1].message.startswith("more than")
