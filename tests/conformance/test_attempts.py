"""Attempts on a real database: claimed once, fenced, and ended once, in any order of events."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from history import check_history, problems_of
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError

from atm.broker.broker import TaskBroker
from atm.errors import InvalidArgumentError, UnavailableError
from atm.lists import Hint, TaskList
from atm.models import Task, now
from atm.scheduler.relay import Relay
from atm.service.attempts import AttemptService, Behind, Claim, Line, Progress, Report
from atm.service.dispatch import Dispatcher
from atm.service.history import LogListing
from atm.service.outcomes import Cancelled, Failed, HandedBack, Outcome, Succeeded, TimedOut, WorkerLost
from atm.service.task_service import TaskService
from atm.service.validation import Listing, NewTask
from atm.states import LogType, Reason, Status
from atm.store import logs, schema_upgrade, tasks, types, waiting
from atm.store.database import Database
from atm.store.dsn import parse_sql_dsn
from atm.store.tasks import Move

NOW = NewTask("example_task", max_retry=1, retry_delay_ms=0)


def _get(database: Database, task_id: str) -> Task:
    task = database.read(lambda connection: tasks.get(connection, task_id))
    assert task is not None
    return task


def test_ok_means_that_the_task_and_its_first_row_are_there(
    creation: TaskService, service: TaskService, database: Database
) -> None:
    task = creation.create(NOW)
    assert _get(database, task.task_id) == task
    rows = service.logs(LogListing(task.task_id)).rows
    assert [(row.log_type, row.from_status, row.to_status) for row in rows] == [
        (LogType.STATE_CHANGE, "", Status.PENDING)
    ]


def test_any_text_comes_back_as_it_was(creation: TaskService, database: Database) -> None:
    payload = {"emoji": "🧨", "nul": "a\x00b", "quote": "'\"\\", "newline": "\r\n", "k" * 255: ""}
    task = creation.create(NewTask("example_task", payload=payload))
    assert _get(database, task.task_id).payload == payload


def test_of_many_workers_one_gets_the_attempt(creation: TaskService, database: Database) -> None:
    task = creation.create(NOW)
    workers = [AttemptService(database, f"w{n}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        claimed = [c for c in pool.map(lambda worker: worker.claim(task.task_id, 1), workers) if c]
    assert len(claimed) == 1
    assert check_history(database) == 1


def test_a_worker_that_was_given_up_on_can_write_nothing_more(
    creation: TaskService, service: TaskService, database: Database
) -> None:
    task = creation.create(NOW)
    first, second = AttemptService(database, "first"), AttemptService(database, "second")
    assert first.claim(task.task_id, 1)
    assert first.finish(task.task_id, 1, WorkerLost("silent")) is Status.PENDING
    assert second.claim(task.task_id, 2)
    assert not first.report(task.task_id, 1, Report([Line("late", task.created_at)]))
    assert first.finish(task.task_id, 1, Succeeded({"stale": "1"})) is None
    assert second.finish(task.task_id, 2, Succeeded({"fresh": "1"})) is Status.SUCCESS
    assert _get(database, task.task_id).result == {"fresh": "1"}
    messages = [row.message for row in service.logs(LogListing(task.task_id)).rows]
    assert "late" not in messages
    assert any("the result of attempt 1 was refused" in message for message in messages)
    check_history(database)


def test_a_cancellation_and_an_end_at_the_same_time_leave_one_end(
    creation: TaskService, service: TaskService, database: Database
) -> None:
    for _ in range(15):
        task = creation.create(NewTask("example_task", max_retry=5, retry_delay_ms=0))
        worker = AttemptService(database, "w")
        worker.claim(task.task_id, 1)
        failed = Failed(Reason.HANDLER_ERROR, "boom")
        with ThreadPoolExecutor(2) as pool:
            end = pool.submit(worker.finish, task.task_id, 1, failed)
            pool.submit(service.cancel, task.task_id, "someone").result()
            end.result()
        assert _get(database, task.task_id).status == Status.CANCELLED
    check_history(database)


def test_a_change_whose_row_cannot_be_written_is_not_made(creation: TaskService, database: Database) -> None:
    task = creation.create(NOW)
    database.write(lambda c: c.execute(text("ALTER TABLE task_log RENAME TO task_log_away")))
    with pytest.raises((UnavailableError, DBAPIError)):
        AttemptService(database, "w").claim(task.task_id, 1)
    database.write(lambda c: c.execute(text("ALTER TABLE task_log_away RENAME TO task_log")))
    assert _get(database, task.task_id).status == Status.PENDING


def test_a_move_that_comes_too_late_leaves_no_row(
    creation: TaskService, service: TaskService, database: Database
) -> None:
    task = creation.create(NOW)
    assert AttemptService(database, "w").claim(task.task_id, 1)
    late = Move(task.task_id, Status.PENDING, 0, Status.CANCELLED, "cancelled")
    assert not database.write(lambda connection: tasks.move(connection, late, task.created_at))
    assert Status.CANCELLED not in [row.to_status for row in service.logs(LogListing(task.task_id)).rows]
    check_history(database)


def test_progress_without_lines_is_stored(creation: TaskService, database: Database) -> None:
    task = creation.create(NOW)
    attempts = AttemptService(database, "w")
    assert attempts.claim(task.task_id, 1)
    assert attempts.report(task.task_id, 1, Report(progress=Progress(0.5, "half")))
    assert (_get(database, task.task_id).progress, _get(database, task.task_id).progress_message) == (
        0.5,
        "half",
    )


ENDS = [
    (Succeeded({"n": "1"}), Status.SUCCESS),
    (
        Failed(Reason.HANDLER_ERROR, "no: \ud800 " + "x" * 20_000, "Traceback\n...", retryable=False),
        Status.FAILED,
    ),
    (Failed(Reason.HANDLER_ERROR, "not yet"), Status.PENDING),
    (TimedOut("it did not react"), Status.PENDING),
    (HandedBack("its worker stopped"), Status.PENDING),
    (WorkerLost("its worker died"), Status.PENDING),
]


@pytest.mark.parametrize(("outcome", "status"), ENDS, ids=lambda case: type(case).__name__)
@pytest.mark.parametrize("goes_on", [False, True])
def test_an_end_whose_answer_was_lost_is_known_when_it_is_told_again(
    creation: TaskService,
    service: TaskService,
    database: Database,
    outcome: Outcome,
    status: Status,
    goes_on: bool,
) -> None:
    task = creation.create(NOW)
    attempts = AttemptService(database, "w")
    assert attempts.claim(task.task_id, 1)
    assert attempts.finish(task.task_id, 1, outcome) is status
    if goes_on and status is Status.PENDING:
        assert AttemptService(database, "next").claim(task.task_id, 2)
    before = _get(database, task.task_id)
    assert attempts.finish(task.task_id, 1, outcome) is status
    assert not any("refused" in row.message for row in service.logs(LogListing(task.task_id)).rows)
    # Somebody else's is not, nor another end than that.
    assert AttemptService(database, "other").finish(task.task_id, 1, outcome) is None
    assert attempts.finish(task.task_id, 1, Failed(Reason.HANDLER_ERROR, "something else")) is None
    assert len([row for row in service.logs(LogListing(task.task_id)).rows if "refused" in row.message]) == 2
    assert _get(database, task.task_id) == before
    check_history(database)


@pytest.mark.parametrize(
    "outcome", [HandedBack("it stops"), Failed(Reason.HANDLER_ERROR, "no"), Cancelled("it went")]
)
def test_so_is_the_end_of_a_task_that_was_cancelled(
    creation: TaskService, service: TaskService, database: Database, outcome: Outcome
) -> None:
    task = creation.create(NOW)
    attempts = AttemptService(database, "w")
    assert attempts.claim(task.task_id, 1)
    service.cancel(task.task_id, "ann")
    for _ in range(2):
        assert attempts.finish(task.task_id, 1, outcome) is Status.CANCELLED
    assert not any("refused" in row.message for row in service.logs(LogListing(task.task_id)).rows)
    check_history(database)


def _set(database: Database, task_id: str, **values: Any) -> None:
    change = update(tasks.TASK).where(tasks.TASK.c.task_id == task_id).values(**values)
    database.write(lambda connection: connection.execute(change))


def test_a_message_that_comes_too_early_is_sent_again_when_its_attempt_is_due(
    creation: TaskService, database: Database
) -> None:
    task = creation.create(NewTask("example_task", delay_ms=30_000))
    _set(database, task.task_id, dispatch_at=now() + timedelta(hours=1))
    assert AttemptService(database, "w").claim(task.task_id, 1) is None
    after = _get(database, task.task_id)
    assert (after.status, after.attempt) == (Status.PENDING, 0)
    assert after.dispatch_at == after.due_at


def test_a_claim_that_knows_more_than_the_database_is_not_out_of_date(
    creation: TaskService, database: Database
) -> None:
    attempts = AttemptService(database, "w")

    def claimed(task_id: str, attempt: int) -> object:
        return database.write(partial(attempts.apply, items=[Claim(task_id, attempt)]))[0]

    waits, runs, ended = (creation.create(NOW).task_id for _ in range(3))
    for task_id in (runs, ended):
        assert attempts.claim(task_id, 1)
    attempts.finish(ended, 1, Succeeded({}))
    # Its node has neither the task, nor the end of the attempt before, yet.
    for task_id, attempt in (("no-such-task", 1), (waits, 2), (runs, 2), (runs, 3)):
        assert claimed(task_id, attempt) is Behind.BEHIND
    for task_id, attempt in ((runs, 1), (ended, 1), (ended, 2)):
        assert claimed(task_id, attempt) is None


def test_a_task_that_waits_is_looked_after_as_often_as_its_age_asks(
    creation: TaskService, database: Database, broker: TaskBroker
) -> None:
    young, old = (creation.create(NOW).task_id for _ in range(2))
    for task_id, seconds in ((young, 5), (old, 200)):
        moment = now() - timedelta(seconds=seconds)
        values = {"due_at": moment, "dispatch_at": moment}
        database.write(
            lambda c, i=task_id, v=values: c.execute(
                update(tasks.TASK).where(tasks.TASK.c.task_id == i).values(**v)
            )
        )
        Relay(database, Dispatcher(broker), 1.0, 1000).run_once()
    waits = [_get(database, task_id).dispatch_at - now() for task_id in (young, old)]
    assert timedelta(seconds=25) < waits[0] < timedelta(seconds=31)
    assert timedelta(seconds=195) < waits[1] < timedelta(seconds=201)


def test_pages_go_from_the_newest_to_the_oldest(creation: TaskService, service: TaskService) -> None:
    ids = [creation.create(NOW).task_id for _ in range(7)]
    seen = []
    for number in (1, 2, 3):
        page = service.page(Listing(page=number, page_size=3, status="PENDING"))
        assert page.total == 7
        seen += [task.task_id for task in page.tasks]
    assert seen == ids[::-1]
    listing, by_token = Listing(page_size=3, status="PENDING"), []
    while True:
        page = service.page(listing)
        by_token += [task.task_id for task in page.tasks]
        if not page.next_token:
            break
        listing = replace(listing, page_token=page.next_token)
    assert by_token == seen


@pytest.mark.parametrize("token", ["nonsense", "", "AAAA", "%%%", "é"])
def test_a_page_token_that_nobody_gave_is_refused(
    service: TaskService, creation: TaskService, token: str
) -> None:
    for _ in range(3):
        creation.create(NOW)
    given = service.page(Listing(page_size=1)).next_token
    other = Listing(page_size=1, status="FAILED", page_token=given)
    for listing in (other, Listing(page_token=token or given[:-8])):
        with pytest.raises(InvalidArgumentError) as caught:
            service.page(listing)
        assert caught.value.violations[0].field == "page_token"


def test_workers_that_start_together_announce_a_type_together(database: Database) -> None:
    names = [f"type-{number // 6}" for number in range(60)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: types.announce(database, name, {"max_retry": 7}), names))
    known = database.read(types.all_types)
    assert {known[name].max_retry for name in names} == {7}


def test_a_message_is_queued_once_however_often_it_is_sent(broker: TaskBroker) -> None:
    normal, high = TaskList("work", 0), TaskList("other", 1)
    t, u, v, w = Hint("t", 1, normal), Hint("u", 1, high), Hint("v", 1, normal), Hint("w", 1, normal)
    for hints in ([t, t, u], [t], [v, w]):
        assert broker.send(hints) == []
        broker.client.script_flush()
    _, found = broker.fetch([normal, high], 10, 0)
    assert len(found) == 4
    assert found[0].message.args == ("u", 1)


def test_a_retry_is_not_postponed_by_the_relay_that_sent_the_attempt_before(
    creation: TaskService, database: Database
) -> None:
    task = creation.create(NOW)
    sent = [Hint(task.task_id, 1, TaskList(task.task_type, 0))]
    worker = AttemptService(database, "w")
    # A worker is faster than the relay: the first attempt is over before the relay notes that it was sent.
    assert worker.claim(task.task_id, 1)
    assert worker.finish(task.task_id, 1, Failed(Reason.HANDLER_ERROR, "boom")) is Status.PENDING
    due = _get(database, task.task_id).dispatch_at
    database.write(lambda c: waiting.postpone_dispatch(c, sent, now(), timedelta(seconds=30)))
    assert _get(database, task.task_id).dispatch_at == due


class Machine(RuleBasedStateMachine):
    """Clients, workers and the rescuer do anything, in any order."""

    ids_made = Bundle("tasks")
    creation: TaskService
    service: TaskService
    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []

    @rule(target=ids_made, retries=st.integers(0, 2))
    def create(self, retries: int) -> str:
        task = self.creation.create(NewTask("example_task", max_retry=retries, retry_delay_ms=0))
        self.ids.append(task.task_id)
        return task.task_id

    @rule(task=ids_made, attempt=st.integers(1, 4), worker=st.sampled_from("ab"))
    def claim(self, task: str, attempt: int, worker: str) -> None:
        AttemptService(self.database, worker).claim(task, attempt)

    @rule(
        task=ids_made,
        attempt=st.integers(1, 4),
        worker=st.sampled_from("ab"),
        outcome=st.sampled_from(
            [
                *(Succeeded({}), Failed(Reason.HANDLER_ERROR, "x"), TimedOut("x"), Cancelled("x")),
                *(Failed(Reason.HANDLER_ERROR, "x", retryable=False), HandedBack("x"), WorkerLost("x")),
            ]
        ),
    )
    def finish(self, task: str, attempt: int, worker: str, outcome: Any) -> None:
        AttemptService(self.database, worker).finish(task, attempt, outcome)

    @rule(task=ids_made)
    def cancel(self, task: str) -> None:
        self.service.cancel(task, "someone")

    @invariant()
    def every_history_is_legal(self) -> None:
        for task_id in self.ids:
            rows = self.database.read(lambda c, task_id=task_id: logs.of_task(c, task_id))
            assert problems_of(_get(self.database, task_id), list(rows)) == []


def test_whatever_happens_in_whatever_order_the_histories_are_legal(
    tmp_path: Path, broker: TaskBroker
) -> None:
    url = parse_sql_dsn(f"sqlite:///{tmp_path / 'atm.db'}")
    schema_upgrade.upgrade(url)
    opened = Database(url, pool_size=3)
    accept = TaskService(opened, Dispatcher(broker))
    accept.start()

    class Bound(Machine):
        database = opened
        creation = accept
        service = TaskService(opened, Dispatcher(broker))

    run: Callable[..., None] = run_state_machine_as_test
    try:
        run(
            Bound,
            settings=settings(
                max_examples=40,
                stateful_step_count=25,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        accept.close()
        opened.close()
