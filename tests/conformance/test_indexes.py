"""A million tasks have ended: what is asked and what is swept still reads only a few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from fill import fill
from fix_mariadb import MariaDB, require_mariadb
from fix_valkey import Valkey
from sqlalchemy import event, text
from sqlalchemy.engine import Connection

from atm.broker.broker import TaskBroker
from atm.models import now
from atm.scheduler.pruner import Pruner
from atm.scheduler.relay import Relay
from atm.scheduler.rescuer import Rescuer
from atm.scheduler.timeout_sweeper import TimeoutSweeper
from atm.service.answers import unbounded
from atm.service.attempts import AttemptService
from atm.service.dispatch import Dispatcher
from atm.service.history import LogListing, read_history
from atm.service.listing import read_page
from atm.service.outcomes import Succeeded
from atm.service.task_service import TaskService
from atm.service.validation import Listing, NewTask
from atm.states import Status
from atm.store import logs, schema_upgrade, servers, tasks, waiting, workers
from atm.store.database import Database
from atm.store.dsn import parse_sql_dsn
from atm.store.tasks import Filter

ROWS = 1_000_000
#: Those that are not over: waiting, and running on a worker that nobody knows.
WAITING, RUNNING = 30, 20
pytestmark = pytest.mark.timeout(400)
_TOKEN = "01900000-0007-7000-8000-000000079999"


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory, valkey: Valkey) -> Iterator[Database]:
    require_mariadb()
    server = MariaDB(tmp_path_factory.mktemp("million"), buffer_pool="1G")
    server.install()
    server.start()
    url = parse_sql_dsn(server.create_database())
    schema_upgrade.upgrade(url)
    # One connection: its counters are the session's.
    database = Database(url, pool_size=1)
    try:
        fill(database, ROWS)
        broker = TaskBroker(valkey.url, prefix="million")
        creation = TaskService(database, Dispatcher(broker), relay_grace=3600)
        new = NewTask("example_task", max_retry=5)
        made = [creation.create_all([new])[0].task_id for _ in range(WAITING + RUNNING)]
        for task_id in made[:RUNNING]:
            AttemptService(database, "nobody").claim(task_id, 1)
        broker.close()
        yield database
    finally:
        database.close()
        server.stop()


def _reads(database: Database, use: Callable[[], Any]) -> int:
    """How many rows and index entries the server looks at for this."""

    def handler_reads() -> int:
        found = database.read(lambda c: c.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'")).all())
        return sum(int(value) for _, value in found)

    handler_reads()
    before = handler_reads()
    own = handler_reads() - before
    before = handler_reads()
    use()
    return handler_reads() - before - own


class _Silent(Dispatcher):
    def __init__(self) -> None:
        """Without a Redis."""

    def relay(self, tasks: Any) -> Any:
        return tasks

    def room(self, lists: Any) -> Any:
        return {}

    def caught_up(self, lists: Any) -> None:
        return None


_AN_ID = "01900000-0001-7000-8000-000000012345"


def _due(connection: Connection, ahead: timedelta) -> object:
    """What is due, or whose message would be missed some time from now."""
    lists = waiting.task_lists(connection)
    return waiting.due(connection, lists, now(), now() + ahead, 500)


#: By name: what is done, and how many reads are plenty.
ASKED: dict[str, tuple[Callable[[Connection], Any], int]] = {
    "a task": (lambda c: tasks.get(c, _AN_ID), 5),
    "what of a task is large": (lambda c: tasks.get(c, _AN_ID, 0), 5),
    "its history": (lambda c: logs.of_task(c, _AN_ID), 10),
    "a page of its history": (lambda c: read_history(c, LogListing(_AN_ID, 10), unbounded), 15),
    "its newest change": (lambda c: logs.newest_change(c, _AN_ID, 0), 10),
    "how long its history is": (lambda c: logs.count_after(c, _AN_ID, 0), 10),
    "a page of tasks": (lambda c: read_page(c, Listing(), unbounded), 70),
    "a page of tasks of a type": (lambda c: read_page(c, Listing(task_type="http_request"), unbounded), 90),
    "a request": (lambda c: tasks.of_requests(c, ["request-77"]), 5),
    "the first page": (lambda c: tasks.page_ids(c, Filter(), limit=21), 50),
    "a page far in": (lambda c: tasks.page_ids(c, Filter(), limit=21, after=_TOKEN), 50),
    "the first of a status": (lambda c: tasks.page_ids(c, Filter(status=Status.FAILED), limit=21), 60),
    "a status far in": (
        lambda c: tasks.page_ids(c, Filter(status=Status.FAILED), limit=21, after=_TOKEN),
        60,
    ),
    "the first of a priority": (lambda c: tasks.page_ids(c, Filter(priority=1), limit=21), 60),
    "the first of a type": (lambda c: tasks.page_ids(c, Filter(task_type="http_request"), limit=21), 60),
    "what waits": (lambda c: tasks.page(c, Filter(status=Status.PENDING), limit=500), 4 * WAITING),
    # Some for each list, of which there are six.
    "the lists": (lambda c: waiting.task_lists(c), 60),
    "what is due": (lambda c: _due(c, timedelta(0)), 40),
    "what will be due": (lambda c: _due(c, timedelta(days=1)), 40 + 5 * WAITING),
    "what a worker holds": (lambda c: tasks.held_by(c, "nobody", 500), 4 * RUNNING),
    "who holds something": (lambda c: tasks.holders(c), 4 * RUNNING),
    "what is overdue": (lambda c: tasks.overdue(c, now() - timedelta(days=1), 500), 4 * RUNNING),
    "what is to be queued again": (lambda c: waiting.dispatch_again(c, now(), "", 5000), 8 * WAITING),
    "what is to be pruned": (lambda c: tasks.prune(c, now() - timedelta(days=1000), 200), 5),
    "the silent workers": (lambda c: workers.unheard(c, now()), 20),
    "the silent servers": (lambda c: servers.remove_unheard(c, now()), 20),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_query_reads_only_what_it_is_about(million: Database, name: str) -> None:
    ask, plenty = ASKED[name]
    assert _reads(million, lambda: million.write(ask)) <= plenty


@pytest.mark.parametrize("name", ASKED)
def test_explain_shows_an_index_for_it(million: Database, name: str) -> None:
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        statements.append((statement, parameters))

    event.listen(million.engine, "before_cursor_execute", note)
    try:
        million.write(ASKED[name][0])
    finally:
        event.remove(million.engine, "before_cursor_execute", note)
    for statement, parameters in statements:
        if " task" not in statement or "INSERT" in statement:
            continue
        plan = million.read(
            lambda c, s=statement, p=parameters: c.exec_driver_sql(f"EXPLAIN {s}", p).mappings().all()
        )
        # What is made of other steps has no key.
        for step in (step for step in plan if not str(step["table"]).startswith("<")):
            # Without a table to read there is no key: "Impossible WHERE", "No matching row".
            assert step["key"] or step["table"] is None, (statement, plan)
            assert step["type"] != "ALL", (statement, plan)


def test_sweeps_read_only_what_is_due(million: Database) -> None:
    sweeps: list[Any] = [
        Relay(million, _Silent(), 0.1, 1000),
        TimeoutSweeper(million),
        Pruner(million, 1000 * 24 * 3600.0),
    ]
    for sweep in sweeps:
        assert _reads(million, sweep.run_once) <= 5 * WAITING, type(sweep).__name__


def test_an_attempt_reads_only_its_own_task(million: Database) -> None:
    (pending,) = million.read(lambda c: tasks.page_ids(c, Filter(status=Status.PENDING), limit=1))
    worker = AttemptService(million, "w")
    assert _reads(million, lambda: worker.claim(pending, 1)) <= 8
    assert _reads(million, lambda: worker.finish(pending, 1, Succeeded({"a": "1"}))) <= 8


def test_what_a_lost_worker_held_is_taken_back_and_nothing_else_is_read(million: Database) -> None:
    assert _reads(million, Rescuer(million, 8.0).run_once) <= 60 * RUNNING
    assert million.read(lambda c: tasks.held_by(c, "nobody", 500)) == []


def test_pruning_reads_and_deletes_a_chunk_at_a_time(million: Database) -> None:
    pruner = Pruner(million, 1.0)
    assert _reads(million, lambda: pruner.run_once()) <= 12 * 200
