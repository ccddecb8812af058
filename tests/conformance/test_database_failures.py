"""What goes wrong with SQL is told apart, and a connection that it went wrong with is not used again."""

from __future__ import annotations

import contextlib
import logging
import re
import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from fix_mariadb import MariaDB
from sqlalchemy import text
from sqlalchemy.engine import Connection

from atm.batching.group_commit import GroupCommit
from atm.errors import AtmError, DatabaseRefusedError, PacketTooLargeError, TaskCancelled, UnavailableError
from atm.models import Task
from atm.service.attempts import AttemptService, ChangeResult, Claim, End, Line, Report
from atm.service.outcomes import Succeeded
from atm.states import Reason, Status
from atm.store import engine as engine_module
from atm.store import failures, logs, schema_upgrade, tasks
from atm.store.database import Database, UndoneError
from atm.store.dsn import parse_sql_dsn
from atm.store.engine import MySQLConnection
from atm.worker.completer import unstorable

LEADER = "UPDATE leader SET instance_id = :who"


@pytest.fixture
def on_mariadb(mariadb: MariaDB) -> Iterator[Database]:
    """With one connection: whoever is next gets what is left of the one before."""
    url = parse_sql_dsn(mariadb.create_database())
    schema_upgrade.upgrade(url)
    made = Database(url, pool_size=1)
    yield made
    made.close()


@pytest.fixture
def own(own_mariadb: MariaDB) -> Iterator[Database]:
    """The same, on a server that the test may do anything to."""
    url = parse_sql_dsn(own_mariadb.create_database())
    schema_upgrade.upgrade(url)
    made = Database(url, pool_size=1)
    yield made
    made.close()


def _lead(who: str) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(text(LEADER), {"who": who})


def _leader(database: Database) -> str:
    return str(_scalar(database, "SELECT instance_id FROM leader"))


def _scalar(database: Database, question: str) -> object:
    return database.read(lambda connection: connection.execute(text(question)).scalar())


def _root(server: MariaDB, statement: str) -> None:
    with server.root() as connection, connection.cursor() as cursor:
        cursor.execute(statement)


# -- half a transaction --------------------------------------------------------

STRANGE = [
    pymysql.err.OperationalError(1047, "WSREP has not yet prepared node for application use"),
    pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query"),
    pymysql.err.OperationalError(4711, "a code that nobody knows"),
    pymysql.err.InternalError("Packet sequence number wrong - got 2 expected 1"),
    pymysql.err.InterfaceError(0, ""),
    struct.error("unpack requires a buffer of 4 bytes"),
    IndexError("bytearray index out of range"),
    BrokenPipeError(32, "Broken pipe"),
    TaskCancelled(),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", STRANGE, ids=repr)
@pytest.mark.parametrize("also_rollback", [False, True], ids=["", "and the rollback"])
def test_what_was_half_done_is_never_committed_by_whoever_comes_next(
    on_mariadb: Database, monkeypatch: pytest.MonkeyPatch, error: BaseException, also_rollback: bool
) -> None:
    on_mariadb.write(_lead("before"))
    query = MySQLConnection.query

    def failing(self: MySQLConnection, sql: Any, unbuffered: bool = False) -> int:
        if "second half" in str(sql):
            raise error
        return query(self, sql, unbuffered)

    def work(connection: Connection) -> None:
        _lead("half")(connection)
        _lead("second half")(connection)

    with monkeypatch.context() as patch:
        patch.setattr(MySQLConnection, "query", failing)
        if also_rollback:
            patch.setattr(MySQLConnection, "rollback", lambda _: _refuse(1047))
        with pytest.raises(BaseException) as caught:
            on_mariadb.write(work)
    assert isinstance(caught.value, UnavailableError | type(error))
    assert _leader(on_mariadb) == "before"
    on_mariadb.write(lambda connection: None)
    assert _leader(on_mariadb) == "before"


def _refuse(code: int) -> None:
    raise pymysql.err.OperationalError(code, "refused")


@pytest.mark.parametrize("raised", [UndoneError(), AtmError("no"), ValueError("a defect")])
def test_a_rollback_that_fails_takes_its_connection_with_it(
    on_mariadb: Database, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    on_mariadb.write(_lead("before"))

    def work(connection: Connection) -> None:
        _lead("half")(connection)
        raise raised

    with monkeypatch.context() as patch:
        patch.setattr(MySQLConnection, "rollback", lambda _: _refuse(1047))
        with pytest.raises((UnavailableError, type(raised))):
            on_mariadb.write(work)
    on_mariadb.write(lambda connection: None)
    assert _leader(on_mariadb) == "before"


def test_a_commit_that_fails_takes_its_connection_with_it(
    on_mariadb: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_mariadb.write(_lead("before"))
    with monkeypatch.context() as patch:
        patch.setattr(MySQLConnection, "commit", lambda _: _refuse(1047))
        with pytest.raises(UnavailableError):
            on_mariadb.write(_lead("half"))
    on_mariadb.write(lambda connection: None)
    assert _leader(on_mariadb) == "before"


# -- no connection ------------------------------------------------------------


@pytest.mark.parametrize("error", [*STRANGE[:8], RuntimeError("what a driver may raise")], ids=repr)
def test_whatever_is_raised_for_no_connection_is_an_outage(
    on_mariadb: Database, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    on_mariadb.ping()

    def dead(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        # At the pool's ping, and at the second try with a new one.
        patch.setattr(MySQLConnection, "ping", dead)
        patch.setattr(engine_module, "_FRESH_SECONDS", -1.0)
        with pytest.raises(UnavailableError) as caught:
            on_mariadb.ping()
        assert caught.value.reason == "DATABASE_UNAVAILABLE"
        patch.setattr(MySQLConnection, "connect", dead)
        with pytest.raises(UnavailableError):
            on_mariadb.ping()
    on_mariadb.ping()


def test_connections_that_are_killed_are_replaced(own: Database, own_mariadb: MariaDB) -> None:
    for _ in range(3):
        own.ping()
        own.engine.pool.connect().close()
        with own_mariadb.root() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE user = 'atm'")
            for (number,) in cursor.fetchall():
                cursor.execute(f"KILL {number}")
        try:
            own.ping()
        except UnavailableError:
            own.ping()


def test_many_connections_read_the_certificates_of_the_system_once(
    on_mariadb: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    create = ssl.create_default_context

    def counted(*arguments: Any, **options: Any) -> ssl.SSLContext:
        made.append(1)
        return create(*arguments, **options)

    monkeypatch.setattr(ssl, "create_default_context", counted)
    monkeypatch.setattr(engine_module, "_contexts", {})
    for _ in range(5):
        on_mariadb.engine.dispose()
        on_mariadb.ping()
    assert len(made) == 1


# -- a server that may only be read ---------------------------------------------


@pytest.mark.parametrize("asks", [True, False])
def test_a_read_only_server_is_left_and_comes_back(
    own: Database, own_mariadb: MariaDB, caplog: pytest.LogCaptureFixture, asks: bool
) -> None:
    caplog.set_level(logging.INFO)
    own.write(_lead("before"))
    _root(own_mariadb, "SET GLOBAL read_only = 1")
    for _ in range(2):
        with pytest.raises(UnavailableError) as caught:
            own.write(_lead("after"))
        assert caught.value.reason == "DATABASE_READ_ONLY"
        assert caught.value.code == "UNAVAILABLE"
        with pytest.raises(UnavailableError):
            own.ping()
    assert _leader(own) == "before", "it can still be read"
    assert "answers again" not in caplog.text
    _root(own_mariadb, "SET GLOBAL read_only = 0")
    # A worker does not ask whether it can write: it writes.
    if asks:
        own.ping()
    own.write(_lead("after"))
    assert _leader(own) == "after"
    assert "answers again" in caplog.text


def test_of_several_hosts_one_that_can_be_written_to_is_used(tmp_path: Path, own_mariadb: MariaDB) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    second = MariaDB(folder)
    second.install()
    second.start()
    try:
        dsn = second.create_database()
        name = parse_sql_dsn(dsn).database
        own_mariadb.create_database()  # for its account
        _root(own_mariadb, f"CREATE DATABASE {name}")
        _root(own_mariadb, f"GRANT ALL ON {name}.* TO atm@'%'")
        for port in (second.port, own_mariadb.port):
            schema_upgrade.upgrade(parse_sql_dsn(dsn.replace(f":{second.port})", f":{port})")))
        hosts = f":{own_mariadb.port},127.0.0.1:{second.port},[::1]:1)"
        database = Database(parse_sql_dsn(dsn.replace(f":{second.port})", hosts)), pool_size=2)
        for primary, replica in ((own_mariadb, second), (second, own_mariadb), (own_mariadb, second)):
            _root(replica, "SET GLOBAL read_only = 1")
            _root(primary, "SET GLOBAL read_only = 0")
            with contextlib.suppress(UnavailableError):  # it finds out
                database.write(_lead("somebody"))
            database.write(_lead("somebody"))
            assert _scalar(database, "SELECT @@port") == primary.port
        _root(own_mariadb, "SET GLOBAL read_only = 1")
        second.stop()
        database.engine.dispose()
        assert _scalar(database, "SELECT @@port") == own_mariadb.port, "better than none"
        database.close()
    finally:
        second.stop()


# -- what somebody has to mend ----------------------------------------------------


def _without_rights(server: MariaDB, name: str) -> None:
    _root(server, f"REVOKE ALL ON {name}.* FROM atm@'%'")
    _root(server, f"GRANT SELECT, INSERT, DELETE, CREATE ON {name}.* TO atm@'%'")


def _with_rights(server: MariaDB, name: str) -> None:
    _root(server, f"GRANT ALL ON {name}.* TO atm@'%'")


def _without_table(server: MariaDB, name: str) -> None:
    _root(server, f"ALTER TABLE {name}.leader RENAME {name}.leader_away")


def _with_table(server: MariaDB, name: str) -> None:
    _root(server, f"ALTER TABLE {name}.leader_away RENAME {name}.leader")


@pytest.mark.parametrize(
    ("hurt", "mend", "code"), [(_without_rights, _with_rights, 1142), (_without_table, _with_table, 1146)]
)
def test_a_refusal_is_told_once_in_the_databases_own_words_and_is_not_to_be_tried_again(
    own: Database,
    own_mariadb: MariaDB,
    caplog: pytest.LogCaptureFixture,
    hurt: Callable[[MariaDB, str], None],
    mend: Callable[[MariaDB, str], None],
    code: int,
) -> None:
    name = str(own.url.database)
    own.ping()
    caplog.set_level(logging.INFO)
    hurt(own_mariadb, name)
    own.engine.dispose()
    for _ in range(3):
        with pytest.raises(DatabaseRefusedError) as caught:
            own.write(_lead("never"))
        assert f"error {code}" in str(caught.value)
        assert caught.value.code == "FAILED_PRECONDITION"
    (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert re.search(rf"{code}.*(denied|exist)", told.getMessage())
    mend(own_mariadb, name)
    own.engine.dispose()
    own.write(_lead("again"))
    assert "answers again" in caplog.records[-1].getMessage()


@pytest.mark.parametrize(
    ("change", "code"),
    [({"password": "wrong"}, 1045), ({"username": "nobody"}, 1045), ({"database": "none"}, 10)],
)
def test_an_account_or_a_database_that_is_wrong_is_a_refusal_that_gives_nothing_away(
    on_mariadb: Database, caplog: pytest.LogCaptureFixture, change: dict[str, str], code: int
) -> None:
    database = Database(on_mariadb.url.set(**change), pool_size=1)
    with pytest.raises(DatabaseRefusedError) as caught:
        database.ping()
    assert f"error {code}" in str(caught.value)
    assert "using password" not in str(caught.value)
    assert not caplog.records, "whoever opens it says so"


def test_a_database_without_connections_says_so(own: Database, own_mariadb: MariaDB) -> None:
    # The least that it takes.
    _root(own_mariadb, "SET GLOBAL max_connections = 10")
    url = own.url
    with contextlib.ExitStack() as held:
        with contextlib.suppress(pymysql.err.OperationalError):
            for _ in range(10):
                connection = pymysql.connect(
                    host=url.host or "", port=url.port or 0, user=url.username, password=url.password or ""
                )
                held.callback(connection.close)
        own.engine.dispose()
        with pytest.raises(UnavailableError, match=r"1040.*max_connections"):
            own.ping()
    own.ping()


def test_a_file_that_is_full_or_no_database_is_a_refusal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = parse_sql_dsn(f"sqlite:///{tmp_path / 'full.db'}")
    schema_upgrade.upgrade(url)
    database = Database(url, pool_size=1)

    def fill(connection: Connection) -> None:
        connection.execute(text("PRAGMA max_page_count = 1"))
        connection.execute(text("CREATE TABLE more AS SELECT zeroblob(1000000)"))

    database.ping()
    with pytest.raises(DatabaseRefusedError):
        database.write(fill)
    database.close()
    assert "full" in caplog.text
    (tmp_path / "other.db").write_text(
        "this is no database, and long enough to be told from an empty one " * 20
    )
    other = Database(parse_sql_dsn(f"sqlite:///{tmp_path / 'other.db'}"), pool_size=1)
    with pytest.raises(DatabaseRefusedError):
        other.ping()
    other.close()


def test_an_outage_that_goes_on_is_told_again_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    now = [100.0]
    monkeypatch.setattr(failures.time, "monotonic", lambda: now[0])
    log = failures.OutageLog()
    log.note(failures.Failure.OUTAGE, OSError("whoever opens it says so"))
    log.over()
    for _ in range(240):
        log.note(failures.Failure.OUTAGE, OSError("away"))
        now[0] += 0.5
    log.note(failures.Failure.REFUSED, OSError("denied"))
    log.over()
    log.over()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "ERROR", "INFO"]
    assert "121 times in 60 s" in caplog.records[1].getMessage()


# -- packets ---------------------------------------------------------------------


@pytest.fixture
def small(own_mariadb: MariaDB) -> Iterator[Database]:
    """A database that takes a megabyte at a time."""
    url = parse_sql_dsn(own_mariadb.create_database())
    schema_upgrade.upgrade(url)
    _root(own_mariadb, "SET GLOBAL max_allowed_packet = 1048576")
    made = Database(url, pool_size=4)
    yield made
    made.close()


def _new(database: Database, payload: dict[str, str], number: int) -> Any:

    at = database.clock.now()
    same = {"task_type": "example_task", "status": Status.PENDING, "priority": 0, "created_at": at}
    policy = {"max_retry": 0, "timeout_ms": 0, "retry_strategy": "FIXED", "retry_delay_ms": 0}
    more = {"retry_backoff_rate": 1.0, "retry_max_delay_ms": 0, "request_id": None, "request_digest": ""}
    made = {"task_id": f"{number:036d}", "payload": payload, "due_at": at, "dispatch_at": at}
    return Task.of_checked(made | same | policy | more)


def test_what_fits_alone_is_stored_and_what_does_not_is_refused_alone(small: Database) -> None:
    commits: GroupCommit[Any, Any] = GroupCommit(small.write, tasks.insert_tasks, name="create")
    commits.start()
    sizes = [200_000] * 8 + [700_000, 100] + [200_000] * 4
    made = [_new(small, {"k": '"' * size}, number) for number, size in enumerate(sizes)]
    replies = commits.ask(made)
    for size, reply in zip(sizes, replies, strict=True):
        if size == 700_000:
            assert isinstance(reply.exception(), PacketTooLargeError)
            assert "max_allowed_packet" in str(reply.exception())
        else:
            assert reply.result()
    commits.close()


def test_a_batch_that_is_more_than_a_packet_is_stored_in_one_transaction(small: Database) -> None:
    batch = [_new(small, {"k": "x" * 300_000}, number) for number in range(12)]
    small.write(lambda connection: tasks.insert_tasks(connection, batch))
    more = [_new(small, {"k": "x" * size}, 100 + number) for number, size in enumerate((9, 2_000_000, 9))]
    with pytest.raises(PacketTooLargeError):
        small.write(lambda connection: tasks.insert_tasks(connection, more))
    ids = small.read(lambda connection: set(tasks.get_all(connection, [f"{n:036d}" for n in range(200)])))
    assert ids == {f"{n:036d}" for n in range(12)}


def test_a_result_that_never_fits_ends_its_task_and_those_beside_it_are_stored(small: Database) -> None:
    attempts = AttemptService(small, "w")
    made = [_new(small, {}, number) for number in range(6)]
    small.write(lambda connection: tasks.insert_tasks(connection, made))
    ends: GroupCommit[Claim | End, ChangeResult] = GroupCommit(
        small.write,
        attempts.apply,
        name="ends",
        insist=lambda: True,
        alone=lambda change, error: attempts.finish_all([unstorable(change, error)])[0],
    )
    ends.start()
    for reply in ends.ask([Claim(task.task_id, 1) for task in made]):
        assert reply.result()
    said = Report([Line("\x00" * 15_000, small.clock.now()) for _ in range(100)])
    outcomes = [Succeeded({"k": "'" * size}) for size in (9, 700_000, 400_000, 400_000, 9, 400_000)]
    replies = ends.ask(
        [End(task.task_id, 1, outcome, said) for task, outcome in zip(made, outcomes, strict=True)]
    )
    wanted = [Status.SUCCESS, Status.FAILED, *[Status.SUCCESS] * 4]
    assert [reply.result() for reply in replies] == wanted
    ends.close()
    failed = small.read(lambda connection: tasks.get(connection, made[1].task_id))
    assert failed is not None
    assert failed.error_reason == Reason.INVALID_RESULT
    assert "max_allowed_packet" in failed.error_message
    lines = small.read(lambda connection: logs.of_task(connection, made[0].task_id))
    assert len([row for row in lines if row.message.startswith("\x00")]) == 100
