"""Upgrades of the schema: stopped anywhere, several at once, on what earlier versions have left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import fix_sql
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fix_mariadb import MariaDB
from fix_sql import new_dsn
from fix_system import eventually
from sqlalchemy import text
from sqlmodel import SQLModel
from upgrades import insert_task, next_release, start_upgrade, upgrade_killed, upgrade_to

from atm.errors import SchemaNewerError, SchemaRefusedError, UnavailableError
from atm.store import engine as engine_module
from atm.store import schema, schema_upgrade, servers, tasks, types
from atm.store.database import Connection, Database
from atm.store.dsn import parse_sql_dsn
from atm.store.migrations import revisions
from atm.store.tasks import Filter

TASKS = ["01900000-0000-7000-8000-00000000000" + digit for digit in "123"]
OLD_STATEMENTS = [
    line.strip().removesuffix(";")
    for line in (Path(__file__).parent.parent / "old_migrations.sql").read_text().splitlines()
    if not line.startswith("--")
]
EXPANSION = """
steps.add_column("task", sa.Column("label_{n}", sa.String(20), nullable=True))
steps.add_column("worker", sa.Column("zone_{n}", sa.Integer(), nullable=False, server_default="0"))
steps.create_index("ix_task_label_{n}", "task", ["label_{n}"])
"""


#: Databases of the test's own: it changes their tables. The one on OceanBase is for many tests.
dsn, empty_dsn = fix_sql.dsn, fix_sql.empty_dsn


def _insert_tasks(connection: Connection) -> None:
    for task_id in TASKS:
        insert_task(connection, task_id)


def _fill(dsn: str) -> None:
    opened = Database(parse_sql_dsn(dsn), pool_size=1)
    opened.write(_insert_tasks)
    opened.close()


def _execute(database: Database, statement: str) -> None:
    database.write(lambda connection: connection.execute(text(statement)))


def _check(dsn: str, task_ids: list[str]) -> None:
    """The schema is whole, what it begins with is there once, and so are the tasks."""
    opened = Database(parse_sql_dsn(dsn), pool_size=1)
    with opened.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []
    assert sorted(opened.read(types.all_types)) == ["example_task", "http_request"]
    assert opened.read(servers.leader).name == "scheduler"
    found = opened.read(lambda connection: tasks.page(connection, Filter(), limit=10))
    assert sorted(task.task_id for task in found) == task_ids
    assert all(task.payload == {"n": "1"} and task.request_id is None for task in found)
    schema.require(opened)
    opened.close()


@pytest.mark.parametrize("start", [None, "0001", "0003"])
@pytest.mark.parametrize("backend", ["sqlite", "mariadb"])
@pytest.mark.timeout(300)
def test_an_upgrade_that_is_killed_after_any_change_is_completed_by_the_next(
    backend: str, start: str | None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    changes = 0
    while True:
        folder = tmp_path / str(changes)
        folder.mkdir()
        dsn = new_dsn(backend, request, folder)
        if start is not None:
            upgrade_to(dsn, start)
            _fill(dsn)
        changes += 1
        killed = upgrade_killed(dsn, changes)
        schema_upgrade.upgrade(parse_sql_dsn(dsn))
        _check(dsn, TASKS if start else [])
        if not killed:
            break
    # The last one made fewer changes.
    assert changes > {None: 25, "0001": 15, "0003": 5}[start]


@pytest.mark.parametrize("done", range(len(OLD_STATEMENTS) + 1))
def test_what_an_earlier_version_left_half_way_is_completed(mariadb: MariaDB, done: int) -> None:
    dsn = mariadb.create_database()
    url = parse_sql_dsn(dsn)
    with mariadb.root() as connection, connection.cursor() as cursor:
        cursor.execute(f"USE {url.database}")
        # What is no DDL is committed by the next one that is: the rest goes with the connection.
        cursor.execute("SET autocommit = 0")
        for statement in OLD_STATEMENTS[:done]:
            cursor.execute(statement)
    has_tasks = done > next(i for i, said in enumerate(OLD_STATEMENTS) if "CREATE TABLE task_log" in said)
    if has_tasks:
        _fill(dsn)
    schema_upgrade.upgrade(url)
    _check(dsn, TASKS if has_tasks else [])


def test_an_alembic_version_that_is_behind_what_is_there_is_made_up_for(dsn: str) -> None:
    _fill(dsn)
    opened = Database(parse_sql_dsn(dsn), pool_size=1)
    for known in ("0003", "0001", None):
        forget = (
            f"UPDATE alembic_version SET version_num = '{known}'" if known else "DELETE FROM alembic_version"
        )
        opened.write(lambda connection, forget=forget: connection.execute(text(forget)))  # type: ignore[misc]
        schema_upgrade.upgrade(opened.url)
        _check(dsn, TASKS)
    opened.close()


@pytest.mark.parametrize("alone", [True, False], ids=["with locks", "where there are none"])
def test_upgrades_at_the_same_time_do_no_harm(empty_dsn: str, alone: bool) -> None:
    upgrade_to(empty_dsn, "0001")
    _fill(empty_dsn)
    running = [start_upgrade(empty_dsn, alone=alone) for _ in range(4)]
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * 4
    _check(empty_dsn, TASKS)


def test_upgrades_of_two_databases_of_one_server_do_not_wait_for_each_other(mariadb: MariaDB) -> None:
    one, other = (parse_sql_dsn(mariadb.create_database()) for _ in range(2))
    with Database(one, pool_size=1).engine.connect() as connection:
        connection.execute(text(f"SELECT GET_LOCK({schema_upgrade._LOCKS[-1]}, 0)"))
        schema_upgrade.upgrade(other)


def test_an_upgrade_says_which_other_one_it_waits_for(
    mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = parse_sql_dsn(mariadb.create_database())
    monkeypatch.setattr(schema_upgrade, "LOCK_SECONDS", 0.0)
    monkeypatch.setattr(schema_upgrade, "_LOCK_POLL_SECONDS", 0)
    other = Database(url, pool_size=1)
    with other.engine.connect() as connection:
        connection.execute(text(f"SELECT GET_LOCK({schema_upgrade._LOCKS[-1]}, 0)"))
        holder = connection.execute(text("SELECT CONNECTION_ID()")).scalar()
        with pytest.raises(UnavailableError, match=f"another upgrade .* connection {holder}"):
            schema_upgrade.upgrade(url)
    other.close()
    schema_upgrade.upgrade(url)


def test_an_upgrade_waits_for_transactions_and_lets_others_work_meanwhile(
    mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dsn = mariadb.create_database()
    upgrade_to(dsn, "0001")
    _fill(dsn)
    monkeypatch.setattr(schema_upgrade, "_TABLE_WAIT_SECONDS", 1)
    monkeypatch.setattr(schema_upgrade, "_TABLE_PAUSE_SECONDS", 0.1)
    thread = threading.Thread(target=schema_upgrade.upgrade, args=(parse_sql_dsn(dsn),))
    with mariadb.root() as connection, connection.cursor() as cursor:
        cursor.execute(f"USE {parse_sql_dsn(dsn).database}")
        # A dump, say, that keeps its snapshot.
        cursor.execute("BEGIN")
        cursor.execute("SELECT COUNT(*) FROM task")
        thread.start()
        eventually(lambda: "waits for transactions" in caplog.text)
        cursor.execute("COMMIT")
    thread.join()
    _check(dsn, TASKS)


def test_an_upgrade_waits_for_its_own_statements_however_long_they_take(
    mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = parse_sql_dsn(mariadb.create_database())
    _, before = schema_upgrade.upgrade(url)
    monkeypatch.setattr(engine_module, "_ANSWER_SECONDS", 1)
    slow = next_release(tmp_path, 'from alembic import op\nop.execute("SELECT SLEEP(2)")')
    monkeypatch.setattr(revisions, "FOLDER", slow)
    assert schema_upgrade.upgrade(url) == (before, f"{int(before) + 1:04}")


# -- newer than the code -----------------------------------------------------------


@pytest.fixture
def this_release(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Sets `revisions.FOLDER`; undone when the code is to be that of today again."""
    with monkeypatch.context() as patch:
        yield patch


def _upgrade_with(patch: pytest.MonkeyPatch, folder: Path, dsn: str) -> None:
    patch.setattr(revisions, "FOLDER", folder)
    schema_upgrade.upgrade(parse_sql_dsn(dsn))
    patch.undo()


def test_code_goes_on_with_a_schema_that_later_releases_have_expanded(
    database: Database, dsn: str, tmp_path: Path, this_release: pytest.MonkeyPatch
) -> None:
    next_one = next_release(tmp_path, EXPANSION)
    _upgrade_with(this_release, next_one, dsn)
    _upgrade_with(this_release, next_release(tmp_path, EXPANSION, after=next_one), dsn)
    schema.require(database)
    newer = f"{int(schema.head()) + 2:04}"
    assert schema.standing(database.url) == (newer, schema.head(), None)
    # With --upgrade-db, say.
    assert schema_upgrade.upgrade(database.url) == (newer, newer)


def test_code_that_cannot_go_on_with_a_newer_schema_says_what_to_install(
    database: Database, dsn: str, tmp_path: Path, this_release: pytest.MonkeyPatch
) -> None:
    next_one = next_release(tmp_path, EXPANSION)
    number = f"{int(schema.head()) + 1:04}"
    contraction = 'steps.drop_column("task", "progress_message")'
    later = next_release(tmp_path, contraction, oldest_code=number, after=next_one)
    _upgrade_with(this_release, later, dsn)
    for refused in (lambda: schema.require(database), lambda: schema_upgrade.upgrade(database.url)):
        with pytest.raises(SchemaNewerError, match=r"Install ATM .* here") as error:
            refused()
        assert "run `atm db upgrade`" not in str(error.value)
    # The code between goes on.
    this_release.setattr(revisions, "FOLDER", next_one)
    schema.require(database)


def test_code_is_refused_from_before_the_first_change_that_it_cannot_go_on_with(
    database: Database, dsn: str, tmp_path: Path
) -> None:
    number = f"{int(schema.head()) + 1:04}"
    contraction = 'steps.drop_column("task", "progress_message")'
    folder = next_release(tmp_path, contraction, oldest_code=number)
    # Its row, and the change itself.
    assert upgrade_killed(dsn, 2, folder)
    if database.url.get_backend_name() == "sqlite":
        schema.require(database)  # undone as a whole
    else:
        with pytest.raises(SchemaNewerError):
            schema.require(database)
    assert not upgrade_killed(dsn, 0, folder)
    with pytest.raises(SchemaNewerError):
        schema.require(database)


def test_a_revision_of_another_application_is_refused(database: Database) -> None:
    database.write(
        lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = 'f00'"))
    )
    with pytest.raises(SchemaRefusedError, match="'f00', which is no revision of ATM"):
        schema.require(database)


def test_two_rows_of_alembic_version_are_one_clear_error(mariadb: MariaDB) -> None:
    url = parse_sql_dsn(mariadb.create_database())
    schema_upgrade.upgrade(url)
    opened = Database(url, pool_size=1)
    _execute(opened, "INSERT INTO alembic_version VALUES ('x')")
    for ask in (
        lambda: schema.require(opened),
        lambda: schema_upgrade.upgrade(url),
        lambda: schema.standing(url),
    ):
        with pytest.raises(SchemaRefusedError, match="alembic_version is not ATM's"):
            ask()
    opened.close()
