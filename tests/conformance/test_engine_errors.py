"""What engines that speak MySQL's protocol say in numbers of their own, by a connection of MariaDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
from fix_mariadb import MariaDB
from sqlalchemy import text
from sqlalchemy.engine import Connection

from atm.errors import UnavailableError
from atm.store import schema, schema_upgrade
from atm.store.bulk import Statement, run
from atm.store.database import Database
from atm.store.dsn import parse_sql_dsn
from atm.store.engine import MySQLConnection
from atm.store.servers import LEADER

#: Rolled back for certain, wherever it is said.
CONFLICTS = [
    (1213, "Deadlock found when trying to get lock; try restarting transaction"),
    (3101, "Plugin instructed the server to rollback the current transaction."),
    (8002, "[8002]can not retry select for update statement"),
    (8005, "Write Conflict, txnStartTS is stale"),
    (8022, "KV error safe to retry"),
    (8028, "Information schema is changed during the execution of the statement"),
    (9007, "Write conflict, txnStartTS=4, conflictStartTS=5, reason=Optimistic [try again later]"),
    (6002, "transaction needs rollback"),
    (6213, "Transaction context does not exist"),
]
#: Rolled back when a statement gets it; of a COMMIT nobody knows.
CONFLICTS_OF_STATEMENTS = [
    (1180, "Got error 6 during COMMIT"),
    (4012, "Timeout, query has reached the maximum query timeout: 10000000(us)"),
    (1105, "target: atm.-80.primary: vttablet: rpc error: code = Aborted desc = transaction 17: not found"),
]
NOT_PRIMARY = [
    (1290, "The MySQL server is running with the --read-only option so it cannot execute this statement"),
    (1290, "The MySQL server is running with the --super-read-only option so it cannot execute it"),
    (1792, "Cannot execute statement in a READ ONLY transaction."),
    (1836, "Running in read-only mode"),
    (1047, "WSREP has not yet prepared node for application use"),
    (3100, "Error on observer while running replication hook 'before_commit'."),
    (1053, "Server shutdown in progress"),
    (1105, "target: atm.0.primary: primary is not serving, there is a reparent operation in progress"),
    (
        1105,
        "vttablet: rpc error: code = FailedPrecondition desc = operation not allowed in state NOT_SERVING",
    ),
]
OTHERS = [(1290, "The MySQL server is running with the --secure-file-priv option"), (1105, "unknown error")]


@pytest.fixture
def database(mariadb: MariaDB) -> Iterator[Database]:
    url = parse_sql_dsn(mariadb.create_database())
    schema_upgrade.upgrade(url)
    made = Database(url, pool_size=3)
    yield made
    made.close()


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, tuple[int, str]], list[str]]:
    """From now on the next statement that holds some words gets an error; those that got one."""

    def to(words: str, error: tuple[int, str]) -> list[str]:
        query, got = MySQLConnection.query, []

        def failing(self: MySQLConnection, sql: Any, unbuffered: bool = False) -> int:
            if words in str(sql) and not got:
                got.append(str(sql))
                pymysql.err.raise_mysql_exception(_packet(error))
            return query(self, sql, unbuffered)

        monkeypatch.setattr(MySQLConnection, "query", failing)
        return got

    return to


def _packet(error: tuple[int, str]) -> bytes:
    number, said = error
    return b"\xff" + number.to_bytes(2, "little") + b"#HY000" + said.encode()


def _lead(who: str) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(text("UPDATE leader SET instance_id = :who"), {"who": who})


def _leader(database: Database) -> str:
    return str(
        database.read(lambda connection: connection.execute(text("SELECT instance_id FROM leader")).scalar())
    )


@pytest.mark.parametrize("error", [*CONFLICTS, *CONFLICTS_OF_STATEMENTS], ids=str)
def test_a_transaction_that_a_statement_lost_is_tried_again(
    database: Database, say: Callable[..., list[str]], error: tuple[int, str]
) -> None:
    got = say("'second'", error)
    database.write(_lead("second"))
    assert got
    assert _leader(database) == "second"


@pytest.mark.parametrize("error", CONFLICTS, ids=str)
def test_a_commit_that_has_certainly_been_rolled_back_is_tried_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, error: tuple[int, str]
) -> None:
    commit, got = MySQLConnection.commit, []

    def failing(self: MySQLConnection) -> None:
        if not got:
            got.append(error)
            self.rollback()
            pymysql.err.raise_mysql_exception(_packet(error))
        commit(self)

    monkeypatch.setattr(MySQLConnection, "commit", failing)
    database.write(_lead("second"))
    assert got
    assert _leader(database) == "second"


@pytest.mark.parametrize("error", [*CONFLICTS_OF_STATEMENTS, *NOT_PRIMARY], ids=str)
def test_a_commit_of_which_nobody_knows_is_not_tried_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, error: tuple[int, str]
) -> None:
    monkeypatch.setattr(
        MySQLConnection, "commit", lambda _: pymysql.err.raise_mysql_exception(_packet(error))
    )
    ran = []
    with pytest.raises(UnavailableError) as caught:
        database.write(lambda connection: ran.append(1))
    assert caught.value.code == "UNAVAILABLE"
    assert ran == [1]


@pytest.mark.parametrize("error", CONFLICTS_OF_STATEMENTS, ids=str)
@pytest.mark.parametrize("several", [True, False], ids=["in one packet", "one by one"])
def test_it_is_known_whether_a_statement_or_the_commit_behind_it_failed(
    database: Database, monkeypatch: pytest.MonkeyPatch, error: tuple[int, str], several: bool
) -> None:
    monkeypatch.setattr(MySQLConnection, "takes_several", several)
    ran: list[int] = []

    def work(connection: Connection) -> None:
        ran.append(1)
        statements = [Statement(connection, LEADER) for _ in range(2)]
        for statement, who in zip(statements, ("first", "second"), strict=True):
            statement.text = f"UPDATE leader SET instance_id = '{who}'"
        run(connection, statements, last=True)

    for fails_at, tries in (("first", 2), ("second", 2), ("COMMIT", 1)):
        ran.clear()
        with monkeypatch.context() as patch:
            _answer(patch, fails_at, error)
            if fails_at == "COMMIT":
                with pytest.raises(UnavailableError):
                    database.write(work)
            else:
                database.write(work)
        assert len(ran) == tries, fails_at


def _answer(patch: pytest.MonkeyPatch, fails_at: str, error: tuple[int, str]) -> None:
    """The first time, the result of one of the statements (which are in this order) is an error."""
    order = ["first", "second", "COMMIT"]
    results: list[str] = []
    query, read, done = MySQLConnection.query, MySQLConnection._read_query_result, []

    def asking(self: MySQLConnection, sql: Any, unbuffered: bool = False) -> int:
        results[:] = [word for word in order if word in str(sql)]
        return query(self, sql, unbuffered)

    def reading(self: MySQLConnection, unbuffered: bool = False) -> int:
        found = read(self, unbuffered)
        if results and results.pop(0) == fails_at and not done:
            done.append(1)
            pymysql.err.raise_mysql_exception(_packet(error))
        return int(found)

    patch.setattr(MySQLConnection, "query", asking)
    patch.setattr(MySQLConnection, "_read_query_result", reading)


@pytest.mark.parametrize("error", NOT_PRIMARY, ids=str)
def test_a_server_that_is_no_primary_any_more_is_left_with_all_its_connections(
    database: Database, say: Callable[..., list[str]], error: tuple[int, str]
) -> None:
    def number(connection: Connection) -> int:
        return int(connection.execute(text("SELECT CONNECTION_ID()")).scalar_one())

    before = database.read(lambda one: {number(one), database.read(number)})
    got = say("'second'", error)
    with pytest.raises(UnavailableError) as caught:
        database.write(_lead("second"))
    assert got
    read_only = error[0] in (1290, 1792, 1836)
    assert caught.value.reason == ("DATABASE_READ_ONLY" if read_only else "DATABASE_UNAVAILABLE")
    assert f"error {error[0]}" in str(caught.value)
    after = database.read(lambda one: {number(one), database.read(number)})
    assert not before & after


@pytest.mark.parametrize("error", NOT_PRIMARY, ids=str)
def test_readiness_asks_whether_it_can_write(
    database: Database, say: Callable[..., list[str]], error: tuple[int, str]
) -> None:
    database.ping()
    say("UPDATE leader", error)
    with pytest.raises(UnavailableError):
        database.ping()
    database.ping()


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_the_same_number_with_other_words_is_something_else(
    database: Database, say: Callable[..., list[str]], error: tuple[int, str]
) -> None:
    say("'second'", error)
    with pytest.raises(UnavailableError) as caught:
        database.write(_lead("second"))
    assert caught.value.reason == "DATABASE_UNAVAILABLE"
    assert "primary" not in str(caught.value)


@pytest.mark.parametrize("form", ["go", "url"])
def test_packets_of_several_statements_can_be_switched_off(mariadb: MariaDB, form: str) -> None:
    dsn = mariadb.create_database()
    if form == "url":
        dsn = parse_sql_dsn(dsn).render_as_string(hide_password=False)
    url = parse_sql_dsn(dsn + ("&" if "?" in dsn else "?") + "multiStatements=false")
    assert schema.current(url) is None
    schema_upgrade.upgrade(url)
    assert schema.current(url) == schema.head()
    made = Database(url, pool_size=1)

    def two(connection: Connection) -> list[int]:
        statements = [Statement(connection, LEADER) for _ in range(2)]
        for statement, who in zip(statements, ("first", "second"), strict=True):
            statement.text = f"UPDATE leader SET instance_id = '{who}'"
        driver: Any = connection.connection.dbapi_connection
        with pytest.raises(pymysql.err.ProgrammingError), driver.cursor() as cursor:
            cursor.execute("SELECT 1; SELECT 2")
        return run(connection, statements, last=True)

    assert made.write(two) == [1, 1]
    assert _leader(made) == "second"
    made.close()


def test_several_hosts_are_taken_by_whatever_reads_the_schema(mariadb: MariaDB) -> None:
    dsn = mariadb.create_database()
    url = parse_sql_dsn(dsn.replace(f":{mariadb.port})", f":{mariadb.port},127.0.0.1:{mariadb.port})"))
    schema_upgrade.upgrade(url)
    assert schema.standing(url).problem is None
