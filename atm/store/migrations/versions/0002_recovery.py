"""Ids of requests, the registry of servers and their leader, and an index for the pruner."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from atm.store.migrations import steps

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _ascii(length: int) -> Any:
    return sa.String(length).with_variant(
        mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql"
    )


def _exact(length: int) -> Any:
    return sa.String(length).with_variant(
        mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql"
    )


TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}

TABLES = sa.MetaData()
SERVER = sa.Table(
    "server",
    TABLES,
    sa.Column("instance_id", _exact(191), primary_key=True),
    sa.Column("server_id", _exact(128), nullable=False),
    sa.Column("host", _exact(255), nullable=False),
    sa.Column("pid", sa.Integer(), nullable=False),
    sa.Column("grpc_port", sa.Integer(), nullable=False),
    sa.Column("worker_port", sa.Integer(), nullable=False),
    sa.Column("status", _ascii(16), nullable=False),
    sa.Column("version", _ascii(32), nullable=False),
    sa.Column("started_at", TIME, nullable=False),
    sa.Column("last_heartbeat_at", TIME, nullable=False),
    **OPTIONS,
)

LEADER = sa.Table(
    "leader",
    TABLES,
    sa.Column("name", _ascii(32), primary_key=True),
    sa.Column("epoch", sa.BigInteger(), nullable=False),
    sa.Column("instance_id", _exact(191), nullable=False),
    sa.Column("acquired_at", TIME, nullable=False),
    **OPTIONS,
)


def upgrade() -> None:
    steps.add_column("task", sa.Column("request_id", _exact(128), nullable=True))
    steps.add_column("task", sa.Column("request_digest", _ascii(64), nullable=False, server_default=""))
    steps.create_index("ix_task_request", "task", ["request_id"], unique=True)
    steps.create_index("ix_task_completed", "task", ["completed_at"])

    steps.create_table(SERVER)
    steps.create_table(LEADER)
    # The row is there from the start, so that taking the lead is one UPDATE.
    steps.insert_missing(
        LEADER,
        [
            {
                "name": "scheduler",
                "epoch": 0,
                "instance_id": "",
                "acquired_at": datetime.now(UTC).replace(tzinfo=None),
            }
        ],
    )
