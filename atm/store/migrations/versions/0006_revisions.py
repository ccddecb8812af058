"""Which revisions a database has had, and the oldest code that goes on with each."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from atm.store.migrations import steps

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _ascii(length: int) -> Any:
    return sa.String(length).with_variant(
        mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql"
    )


TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}

TABLES = sa.MetaData()
SCHEMA_REVISION = sa.Table(
    "schema_revision",
    TABLES,
    sa.Column("revision", _ascii(32), primary_key=True),
    sa.Column("oldest_code", _ascii(32), nullable=False),
    sa.Column("version", _ascii(32), nullable=False),
    sa.Column("begun_at", TIME, nullable=False),
    **OPTIONS,
)


def upgrade() -> None:
    steps.create_table(SCHEMA_REVISION)
