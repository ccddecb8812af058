"""ATM on a Galera cluster: server and worker use one node each, the third tells what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from fix_galera import NODES, Galera, Node
from fix_system import System, eventually, health
from fix_valkey import Valkey
from grpc_health.v1 import health_pb2
from history import check_history
from sqlalchemy import inspect, text
from trickle import trickle

from atm.errors import UnavailableError
from atm.models import Task
from atm.states import Status
from atm.store.database import Connection, Database
from atm.store.dsn import parse_sql_dsn
from atm.store.tasks import Filter, get, page

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVERS, WORKERS, WITNESS = range(NODES)
#: How long a client insists: a node that is isolated needs seconds to find out, and to come back.
INSIST_SECONDS = 90.0


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, valkey: Valkey, galera: Galera) -> Iterator[System]:
    """A server and a worker on different nodes; the tests themselves look at the third."""
    dsn = galera.nodes[WITNESS].create_database()
    made = System(tmp_path_factory.mktemp("system"), valkey.address, dsn)
    servers, workers = galera.nodes[SERVERS].dsn_of(dsn), galera.nodes[WORKERS].dsn_of(dsn)
    try:
        made.start_server(environment={"MYSQL_DSN": servers})
        made.start_worker(environment={"MYSQL_DSN": workers, "ATM_LOG_LEVEL": "DEBUG"})
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def created() -> set[str]:
    """The ids of all tasks that were created."""
    return set()


@contextlib.contextmanager
def _isolated(node: Node) -> Iterator[None]:
    """The node has lost its primary component meanwhile."""
    try:
        node.isolate()
        yield
    finally:
        node.come_back()


@contextlib.contextmanager
def _opened(system: System, node: Node) -> Iterator[Database]:
    """The system's database, as this node has it, over one connection."""
    database = Database(parse_sql_dsn(node.dsn_of(system.dsn)), pool_size=1)
    try:
        yield database
    finally:
        database.close()


def _execute(database: Database, statement: str) -> None:
    database.write(lambda connection: connection.execute(text(statement)))


def _numbers(database: Database, table: str) -> list[int]:
    return database.read(lambda connection: list(connection.scalars(text(f"SELECT n FROM {table}"))))


def _check_everywhere(system: System, galera: Galera, created: set[str]) -> None:
    """Nothing is lost, nothing is doubled, and on every node each history is the same legal one."""
    starts = system.starts()
    seen = []
    for node in galera.nodes:
        with _opened(system, node) as database:
            eventually(
                lambda database=database: _have_ended(database, created), what="tasks are lost, or do not end"
            )  # type: ignore[misc]
            check_history(database)
            tasks = {task.task_id: task for task in database.read(_every_task)}
        assert not set(tasks) - created, "a call that was tried again has made two"
        for task_id, task in tasks.items():
            assert 1 <= starts[task_id] <= task.attempt, "an attempt ran twice"
        seen.append({task_id: (task.attempt, task.completed_at) for task_id, task in tasks.items()})
    assert all(tasks == seen[0] for tasks in seen), "nodes differ"


def _every_task(connection: Connection) -> list[Task]:
    return list(page(connection, Filter(), limit=1_000_000))


def _have_ended(database: Database, created: set[str]) -> bool:
    tasks = database.read(_every_task)
    return created <= {task.task_id for task in tasks if task.status == Status.SUCCESS}


@pytest.mark.parametrize("which", [WORKERS, SERVERS], ids=["the worker's", "the server's"])
def test_a_node_that_loses_its_primary_component_and_comes_back_loses_and_doubles_nothing(
    system: System, galera: Galera, created: set[str], which: int
) -> None:
    with trickle(system, "note_start", INSIST_SECONDS) as made:
        with _isolated(galera.nodes[which]):
            if which == SERVERS:
                eventually(lambda: health(system.address, "sql") == NOT_SERVING)
            else:
                # Nobody but this worker is cut off.
                made.goes_on()
        eventually(lambda: health(system.address, "sql") == SERVING)
        last = made.ids[-1]
        eventually(lambda: _status(system, last) == Status.SUCCESS, what="it does not go on by itself")
    created.update(made.ids)
    _check_everywhere(system, galera, created)


def _status(system: System, task_id: str) -> str:
    task = system.database.read(lambda connection: get(connection, task_id))
    return "" if task is None else task.status


@pytest.mark.parametrize("statements_before", [1, 2])
def test_half_a_transaction_is_nowhere_when_its_node_is_isolated_between_its_statements(
    system: System, galera: Galera, created: set[str], statements_before: int
) -> None:
    """With 2 before, nothing but the COMMIT comes after."""
    node = galera.nodes[WORKERS]
    table = f"half_{statements_before}"

    def halves(connection: Connection) -> None:
        for number in (1, 2):
            connection.execute(text(f"INSERT INTO {table} VALUES ({number})"))
            if number == statements_before:
                stack.enter_context(_isolated(node))

    # One connection: whoever comes next has it, if it is kept.
    with _opened(system, node) as database, trickle(system, "note_start", INSIST_SECONDS) as made:
        _execute(database, f"CREATE TABLE {table} (n INT PRIMARY KEY)")
        with contextlib.ExitStack() as stack, pytest.raises(UnavailableError, match="1047"):
            database.write(halves)
        _execute(database, f"INSERT INTO {table} VALUES (3)")
        for each in galera.nodes:
            with _opened(system, each) as there:
                eventually(lambda there=there: _numbers(there, table))  # type: ignore[misc]
                assert _numbers(there, table) == [3]
    created.update(made.ids)
    _check_everywhere(system, galera, created)


def test_a_worker_whose_node_does_not_have_the_row_yet_tries_again(
    system: System, galera: Galera, created: set[str]
) -> None:
    """What the server's node has committed is told through Redis at once."""
    (log,) = system.folder.glob("worker-*.log")
    behind = galera.nodes[WORKERS]
    with _opened(system, behind) as database, behind.root() as connection, connection.cursor() as cursor:
        _execute(system.database, "CREATE TABLE held (n INT PRIMARY KEY)")
        eventually(lambda: "held" in inspect(database.engine).get_table_names())
        # What changes this table waits, on this node, and all that comes after it.
        cursor.execute(f"FLUSH TABLES {database.url.database}.held WITH READ LOCK")
        _execute(system.database, "INSERT INTO held VALUES (1)")
        made = [task.task_id for task in system.client().create_tasks([{"task_type": "note_start"}] * 20)]
        refused = [f"task {task_id}, attempt 1: not here yet" for task_id in made]
        eventually(lambda: any(line in log.read_text() for line in refused))
        assert not set(made) & {task.task_id for task in database.read(_every_task)}
        cursor.execute("UNLOCK TABLES")
    client = system.client()
    ended = [client.wait_for_task(task_id, 60) for task_id in made]
    assert {(task.status, task.attempt) for task in ended} == {("SUCCESS", 1)}
    created.update(made)
    _check_everywhere(system, galera, created)


def test_of_several_nodes_one_with_a_primary_component_is_used(system: System, galera: Galera) -> None:
    """One without answers what reads no table."""
    first, second, _ = galera.nodes
    dsn = first.dsn_of(system.dsn).replace(f":{first.port})", f":{first.port},127.0.0.1:{second.port})")
    database = Database(parse_sql_dsn(dsn), pool_size=1)
    try:
        _execute(database, "CREATE TABLE several (n INT PRIMARY KEY)")
        _execute(database, "INSERT INTO several VALUES (1)")
        with _isolated(first):
            with pytest.raises(UnavailableError, match="1047"):  # it finds out
                _execute(database, "INSERT INTO several VALUES (2)")
            _execute(database, "INSERT INTO several VALUES (3)")
            database.ping()
            assert _numbers(database, "several") == [1, 3]
    finally:
        database.close()
