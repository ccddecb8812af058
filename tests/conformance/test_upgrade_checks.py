"""What would stop an upgrade is found before its first change, and said with what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fix_mariadb import PASSWORD, MariaDB, require_mariadb
from sqlalchemy import text
from sqlalchemy.engine import URL

from atm.errors import SchemaRefusedError, UnavailableError
from atm.store import schema, schema_upgrade
from atm.store.database import Database
from atm.store.dsn import parse_sql_dsn

RIGHTS = ("SELECT", "INSERT", "UPDATE", "CREATE", "ALTER", "INDEX")


def _contents(url: URL) -> list[tuple[object, ...]]:
    """Every table, view, column and index of a database, and its rows' number."""
    opened = Database(url, pool_size=1)
    if url.get_backend_name() == "sqlite":
        ask = "SELECT name, sql FROM sqlite_master ORDER BY name, sql"
    else:
        ask = (
            "SELECT table_name, column_name, column_type, column_key FROM information_schema.columns "
            f"WHERE table_schema = '{url.database}' ORDER BY 1, 2"
        )
    found = opened.read(lambda connection: connection.execute(text(ask)).all())
    opened.close()
    return [tuple(row) for row in found]


def _execute(url: URL, *statements: str) -> None:
    opened = Database(url, pool_size=1)
    for statement in statements:
        opened.write(lambda connection, statement=statement: connection.execute(text(statement)))  # type: ignore[misc]
    opened.close()


OLDER = (
    *("task_id VARCHAR(36)", "task_type VARCHAR(64)", "status VARCHAR(16)", "priority INTEGER"),
    *("payload TEXT", "result TEXT", "worker_id VARCHAR(64)", "retry_count INTEGER", "max_retry INTEGER"),
    *("error_message TEXT", "created_at TIMESTAMP NULL"),
)
STRANGERS = {
    "the tables of the older service": (
        f"CREATE TABLE task (id INTEGER PRIMARY KEY, {', '.join(OLDER)})",
        "CREATE TABLE task_log (id INTEGER PRIMARY KEY, task_id VARCHAR(36), message TEXT)",
    ),
    "one table, with rows": ("CREATE TABLE worker (name VARCHAR(10))", "INSERT INTO worker VALUES ('Ada')"),
    "the last table that is made": ("CREATE TABLE leader (party VARCHAR(10))",),
    "in capitals": ("CREATE TABLE task_config (TASK_TYPE VARCHAR(10), VALUE VARCHAR(10))",),
    "a view": ("CREATE TABLE people (worker_id INTEGER)", "CREATE VIEW worker AS SELECT * FROM people"),
    "another application's alembic_version": (
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('ae1027a6acf')",
    ),
    "one that counts as we do": (
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('0003')",
        "CREATE TABLE task (id INTEGER PRIMARY KEY)",
    ),
}


@pytest.mark.parametrize("statements", STRANGERS.values(), ids=STRANGERS)
def test_tables_that_are_not_atms_are_recognised_before_any_change(
    empty_dsn: str, statements: tuple[str, ...]
) -> None:
    url = parse_sql_dsn(empty_dsn)
    _execute(url, *statements)
    before = _contents(url)
    with pytest.raises(SchemaRefusedError, match="a database of its own"):
        schema_upgrade.upgrade(url)
    assert _contents(url) == before


def test_tables_of_other_names_do_not_matter(empty_dsn: str) -> None:
    url = parse_sql_dsn(empty_dsn)
    _execute(url, "CREATE TABLE tasks (id INTEGER)", "CREATE TABLE user_worker (id INTEGER)")
    schema_upgrade.upgrade(url)
    assert schema.standing(url).problem is None


# -- what MariaDB allows -----------------------------------------------------------

Limited = Callable[..., URL]


@pytest.fixture
def limited(mariadb: MariaDB) -> Iterator[Limited]:
    """The URL of a new database, for a user with these rights on it."""
    made: list[str] = []

    def make(*grants: str) -> URL:
        url = parse_sql_dsn(mariadb.create_database())
        user = f"low{len(made)}"
        made.append(user)
        with mariadb.root() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE OR REPLACE USER {user}@'%' IDENTIFIED BY '{PASSWORD}'")
            for grant in grants:
                cursor.execute(grant.format(user=f"{user}@'%'", database=url.database))
        return url.set(username=user)

    yield make
    with mariadb.root() as connection, connection.cursor() as cursor:
        for user in made:
            cursor.execute(f"DROP USER {user}@'%'")


@pytest.mark.parametrize("missing", RIGHTS)
def test_a_missing_right_is_named_before_any_change(limited: Limited, missing: str) -> None:
    others = ", ".join(right for right in RIGHTS if right != missing)
    url = limited(f"GRANT {others} ON {{database}}.* TO {{user}}")
    said = f"lacks the right to {missing}, .*GRANT {missing} ON"
    with pytest.raises(SchemaRefusedError, match=said):
        schema_upgrade.upgrade(url)
    assert _contents(url.set(username="atm")) == []


def test_all_missing_rights_are_named_at_once(limited: Limited) -> None:
    url = limited("GRANT SELECT ON {database}.* TO {user}")
    with pytest.raises(SchemaRefusedError, match="INSERT, UPDATE, CREATE, ALTER, INDEX"):
        schema_upgrade.upgrade(url)


BY_TABLES = [
    f"GRANT INSERT, UPDATE, CREATE, ALTER, INDEX ON {{database}}.{table} TO {{user}}"
    for table in (
        *("task", "task_log", "task_config", "worker", "server", "leader"),
        *("schema_revision", "alembic_version"),
    )
]


@pytest.mark.parametrize(
    "grants",
    [
        (f"GRANT {', '.join(RIGHTS)} ON {{database}}.* TO {{user}}",),
        ("GRANT ALL ON `atm\\_%`.* TO {user}",),
        (
            "CREATE OR REPLACE ROLE keeper",
            "GRANT ALL ON {database}.* TO keeper",
            "GRANT keeper TO {user}",
            "SET DEFAULT ROLE keeper FOR {user}",
        ),
        ("GRANT SELECT ON {database}.* TO {user}", *BY_TABLES),
    ],
    ids=["the least", "by a pattern", "by a role", "by tables"],
)
def test_rights_that_suffice_do_however_they_are_given(limited: Limited, grants: tuple[str, ...]) -> None:
    url = limited(*grants)
    schema_upgrade.upgrade(url)
    assert schema.standing(url).problem is None


def test_a_schema_that_is_up_to_date_needs_no_rights_to_change_it(limited: Limited, mariadb: MariaDB) -> None:
    url = limited("GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO {user}")
    schema_upgrade.upgrade(url.set(username="atm"))
    assert schema_upgrade.upgrade(url) == (schema.head(), schema.head())


def _with_flags(folder: Path, *flags: str) -> MariaDB:
    require_mariadb()
    server = MariaDB(folder, flags=flags)
    server.install()
    server.start()
    return server


def test_a_binary_log_by_statement_is_found_before_any_change(tmp_path: Path) -> None:
    server = _with_flags(tmp_path, "--log-bin=bl", "--server-id=1", "--binlog-format=STATEMENT")
    try:
        url = parse_sql_dsn(server.create_database())
        with pytest.raises(SchemaRefusedError, match="Set binlog_format to ROW"):
            schema_upgrade.upgrade(url)
        assert _contents(url) == []
        with server.root() as connection, connection.cursor() as cursor:
            cursor.execute("SET GLOBAL binlog_format = MIXED")
        schema_upgrade.upgrade(url)
        with server.root() as connection, connection.cursor() as cursor:
            cursor.execute("SET GLOBAL binlog_format = STATEMENT")
        # There is nothing to do any more.
        schema_upgrade.upgrade(url)
    finally:
        server.stop()


def test_a_read_only_server_is_told_of_before_any_change(own_mariadb: MariaDB) -> None:
    url = parse_sql_dsn(own_mariadb.create_database())
    with own_mariadb.root() as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL read_only = 1")
    with pytest.raises((UnavailableError, SchemaRefusedError), match="read-only"):
        schema_upgrade.upgrade(url)
    assert _contents(url) == []
