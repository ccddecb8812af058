"""The schema: made by migrations, the same as the models, and demanded clearly."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fix_sql import BACKENDS
from sqlmodel import SQLModel
from upgrades import start_upgrade

from atm.errors import SchemaBehindError
from atm.store import schema
from atm.store.database import Database
from atm.store.dsn import parse_sql_dsn
from atm.store.migrations import revisions, scripts


# Of OceanBase's tables Alembic does not understand the indexes.
@pytest.mark.parametrize("dsn", BACKENDS, indirect=True)
def test_the_models_and_the_migrations_agree(database: Database) -> None:
    with database.engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), SQLModel.metadata)
    assert found == []


def test_each_migration_is_in_a_file_that_its_revision_names() -> None:
    # Servers and workers know the revisions by these.
    assert revisions.names() == [script.revision for script in scripts.scripts()]


def test_upgrading_again_or_at_the_same_time_changes_nothing(empty_dsn: str) -> None:
    url = parse_sql_dsn(empty_dsn)
    assert schema.current(url) is None
    # Processes: Alembic knows one migration at a time in each.
    for together in (4, 1):
        running = [start_upgrade(empty_dsn) for _ in range(together)]
        for process in running:
            process.join()
        assert [process.exitcode for process in running] == [0] * together
        assert schema.current(url) == schema.head()


def test_a_database_that_is_behind_is_refused_with_what_to_do(empty_dsn: str) -> None:
    opened = Database(parse_sql_dsn(empty_dsn), pool_size=1)
    with pytest.raises(SchemaBehindError, match="atm db upgrade"):
        schema.require(opened)
    opened.close()
