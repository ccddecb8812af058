"""What would stop an upgrade in its middle, found before its first change.

Each check raises SchemaRefusedError, whose message says what is wrong and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Table, inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from atm.errors import SchemaRefusedError
from atm.store.failures import code_of, words_of
from atm.store.migrations import catalog

if TYPE_CHECKING:
    from alembic.script import Script

#: How many of a stranger's missing columns are named.
_SHOWN = 4
#: No database has a table of this name.
_NO_TABLE = "atm_no_such_table"
#: A statement for each right that migrations need. It changes nothing, since what it names is not
#: there, or twice; MySQL looks at the rights first.
_PROBES = {
    "SELECT": "SELECT 1 FROM {table} WHERE atm_no_such_column = 1",
    "INSERT": "INSERT INTO {table} (atm_no_such_column) VALUES (1)",
    "UPDATE": "UPDATE {table} SET atm_no_such_column = 1",
    "CREATE": "CREATE TABLE {table} (twice INT, twice INT)",
    "ALTER": "ALTER TABLE {table} DROP COLUMN atm_no_such_column",
    "INDEX": "DROP INDEX atm_no_such_index ON {table}",
}
#: Codes of MySQL for a right that is missing: on a database, a table, a column, or as such.
_DENIED = {1044, 1142, 1143, 1227}
#: ... and for what is wrong with the probes otherwise.
_IMPOSSIBLE = {1050, 1054, 1060, 1091, 1146}


def check(connection: Connection, revision: str | None, scripts: Sequence[Script]) -> None:
    """Looks whether the upgrade from `revision` by those of `scripts` that come after it can succeed.

    On MySQL it commits the connection's transaction. Raises SchemaRefusedError, and DBAPIError.
    """
    names = [script.revision for script in scripts]
    done = 0 if revision is None else names.index(revision) + 1
    applied, coming = _tables_of(scripts[:done]), _tables_of(scripts[done:])
    _check_tables(connection, applied, coming)
    if connection.dialect.name != "sqlite":
        _check_binary_log(connection)
        _check_rights(connection, sorted(applied | coming))


# -- whose tables these are ------------------------------------------------------


def _tables_of(scripts: Sequence[Script]) -> dict[str, Table]:
    """The tables that these migrations create, by name."""
    made = [script.module.TABLES for script in scripts if hasattr(script.module, "TABLES")]
    return {name: table for tables in made for name, table in tables.tables.items()}


def _check_tables(connection: Connection, applied: Mapping[str, Table], coming: Mapping[str, Table]) -> None:
    found = inspect(connection)
    views = set(found.get_view_names())
    there = {name.lower(): name for name in [*found.get_table_names(), *views]}
    for name, table in {**applied, **coming}.items():
        if name not in there:
            if name in applied:
                raise stranger(f"there is an alembic_version, but no table `{name}`")
            continue
        if there[name] in views:
            raise stranger(f"`{name}` is a view")
        columns = {column.lower() for column in catalog.columns(connection, there[name])}
        # What an upgrade that was stopped has created has all of its columns. Of a table
        # that has been in use some may have been dropped since; never its key.
        needed = table.columns if name in coming else table.primary_key.columns
        missing = [column.name for column in needed if column.name not in columns]
        if missing:
            more = ", …" if len(missing) > _SHOWN else ""
            raise stranger(f"its table `{name}` has no column {', '.join(missing[:_SHOWN])}{more}")


def stranger(what: str) -> SchemaRefusedError:
    """What is raised for a database that is another application's."""
    return SchemaRefusedError(
        f"the database holds tables that are not ATM's: {what}. Nothing was changed. "
        "Give ATM a database of its own (--mysql / MYSQL_DSN)"
    )


# -- what the server allows ------------------------------------------------------


def _check_binary_log(connection: Connection) -> None:
    names = "'log_bin', 'sql_log_bin', 'binlog_format'"
    rows = connection.execute(text(f"SHOW SESSION VARIABLES WHERE Variable_name IN ({names})"))
    found = {row[0].lower(): str(row[1]).upper() for row in rows}
    is_written = found.get("log_bin") == "ON" and found.get("sql_log_bin", "ON") == "ON"
    if is_written and found.get("binlog_format") == "STATEMENT":
        raise SchemaRefusedError(
            "the database writes its binary log by statement (binlog_format=STATEMENT), and then takes no "
            "changes at the isolation level READ COMMITTED, which ATM uses. Nothing was changed. "
            "Set binlog_format to ROW (or MIXED), and connect anew"
        )


def _check_rights(connection: Connection, tables: Sequence[str]) -> None:
    missing = [right for right in _PROBES if not _has_right(connection, right, tables)]
    if missing:
        raise SchemaRefusedError(
            f"the user of the database lacks the right to {', '.join(missing)}, which the upgrade needs. "
            f"Nothing was changed. Grant it ({_grant(connection, missing)}), or run `atm db upgrade` as "
            "another user"
        )


def _has_right(connection: Connection, right: str, tables: Sequence[str]) -> bool:
    """Whether the user has it on the whole database, or on each of these tables."""
    if _is_allowed(connection, _PROBES[right].format(table=_NO_TABLE)):
        return True
    return bool(tables) and all(
        _is_allowed(connection, _PROBES[right].format(table=f"`{name}`")) for name in tables
    )


def _is_allowed(connection: Connection, probe: str) -> bool:
    try:
        connection.exec_driver_sql(probe)
    except DBAPIError as error:
        code = code_of(error)
        if code in _DENIED:
            return False
        if code in _IMPOSSIBLE:
            return True
        raise SchemaRefusedError(f"the database refuses changes of its schema: {words_of(error)}") from error
    return True


def _grant(connection: Connection, rights: Sequence[str]) -> str:
    user, database = connection.execute(text("SELECT CURRENT_USER(), DATABASE()")).one()
    return f"GRANT {', '.join(rights)} ON {database}.* TO {user}"
