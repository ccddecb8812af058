"""The tables task, task_log, task_config and worker, and the built-in types."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from atm.store.migrations import steps

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# A migration keeps its own types: it says what was, not what the models are now.
def _ascii(length: int) -> Any:
    return sa.String(length).with_variant(
        mysql.VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql"
    )


def _exact(length: int) -> Any:
    return sa.String(length).with_variant(
        mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql"
    )


TEXT = sa.Text().with_variant(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}


def _column(name: str, kind: Any, *, nullable: bool = False, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=nullable, **options)


#: What this migration creates: by these columns a half-made table is told from a stranger's.
TABLES = sa.MetaData()
TASK = sa.Table(
    "task",
    TABLES,
    _column("task_id", _ascii(36), primary_key=True),
    _column("task_type", _exact(128)),
    _column("status", _ascii(16)),
    _column("priority", sa.Integer()),
    _column("payload", TEXT),
    _column("result", TEXT, nullable=True),
    _column("worker_id", _exact(128)),
    _column("attempt", sa.Integer()),
    _column("retry_count", sa.Integer()),
    _column("max_retry", sa.Integer()),
    _column("timeout_ms", sa.BigInteger()),
    _column("retry_strategy", _ascii(16)),
    _column("retry_delay_ms", sa.BigInteger()),
    _column("retry_backoff_rate", sa.Float(53)),
    _column("retry_max_delay_ms", sa.BigInteger()),
    _column("error_message", TEXT),
    _column("error_reason", _ascii(32)),
    _column("progress", sa.Float(53)),
    _column("progress_message", _exact(255)),
    _column("created_at", TIME),
    _column("started_at", TIME, nullable=True),
    _column("completed_at", TIME, nullable=True),
    _column("due_at", TIME),
    _column("dispatch_at", TIME, nullable=True),
    _column("deadline_at", TIME, nullable=True),
    _column("cancel_requested_at", TIME, nullable=True),
    _column("cancel_requested_by", _exact(255)),
    **OPTIONS,
)

TASK_LOG = sa.Table(
    "task_log",
    TABLES,
    _column("log_id", BIG_ID, primary_key=True, autoincrement=True),
    _column("task_id", _ascii(36)),
    _column("log_type", _ascii(16)),
    _column("from_status", _ascii(16)),
    _column("to_status", _ascii(16)),
    _column("message", TEXT),
    _column("worker_id", _exact(128)),
    _column("attempt", sa.Integer()),
    _column("created_at", TIME),
    **OPTIONS,
)

TASK_CONFIG = sa.Table(
    "task_config",
    TABLES,
    _column("task_type", _exact(128), primary_key=True),
    _column("default_timeout_ms", sa.BigInteger()),
    _column("max_retry", sa.Integer()),
    _column("retry_strategy", _ascii(16)),
    _column("retry_delay_ms", sa.BigInteger()),
    _column("retry_backoff_rate", sa.Float(53)),
    _column("retry_max_delay_ms", sa.BigInteger()),
    _column("max_concurrent", sa.Integer()),
    _column("enabled", sa.Boolean()),
    _column("executor", _ascii(16)),
    _column("updated_at", TIME),
    **OPTIONS,
)

WORKER = sa.Table(
    "worker",
    TABLES,
    _column("worker_id", _exact(128), primary_key=True),
    _column("host", _exact(255)),
    _column("pid", sa.Integer()),
    _column("capacity", sa.Integer()),
    _column("load", sa.Integer()),
    _column("task_types", TEXT),
    _column("status", _ascii(16)),
    _column("version", _ascii(32)),
    _column("started_at", TIME),
    _column("last_heartbeat_at", TIME),
    **OPTIONS,
)


def upgrade() -> None:
    steps.create_table(TASK)
    steps.create_index("ix_task_status_id", "task", ["status", "task_id"])
    steps.create_index("ix_task_priority_id", "task", ["priority", "task_id"])
    steps.create_index("ix_task_type_id", "task", ["task_type", "task_id"])
    steps.create_index("ix_task_dispatch", "task", ["status", "dispatch_at"])
    steps.create_index("ix_task_worker", "task", ["status", "worker_id"])
    steps.create_index("ix_task_deadline", "task", ["status", "deadline_at"])

    steps.create_table(TASK_LOG)
    steps.create_index("ix_task_log_task", "task_log", ["task_id", "log_id"])

    steps.create_table(TASK_CONFIG)

    steps.create_table(WORKER)
    steps.create_index("ix_worker_heartbeat", "worker", ["last_heartbeat_at"])

    # Known from the start, so that a task may be created before any worker has started.
    common = {
        "max_retry": 3,
        "retry_strategy": "EXPONENTIAL",
        "retry_delay_ms": 1000,
        "retry_backoff_rate": 2.0,
        "retry_max_delay_ms": 600_000,
        "max_concurrent": 0,
        "enabled": True,
        "updated_at": datetime.now(UTC).replace(tzinfo=None),
    }
    steps.insert_missing(
        TASK_CONFIG,
        [
            {"task_type": "example_task", "default_timeout_ms": 60_000, "executor": "thread", **common},
            {"task_type": "http_request", "default_timeout_ms": 60_000, "executor": "async", **common},
        ],
    )
