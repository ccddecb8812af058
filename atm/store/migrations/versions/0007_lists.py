"""What waits is found by type and priority, and who leads has a lease in SQL."""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from atm.store.migrations import steps

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


FAULT = sa.String(500).with_variant(mysql.VARCHAR(500, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")
MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")


def upgrade() -> None:
    # Nullable: servers of the version before go on writing this row without them.
    steps.add_column("leader", sa.Column("leads_until", MOMENT, nullable=True))
    steps.add_column("leader", sa.Column("without_redis", sa.Boolean(), nullable=True))
    steps.add_column("server", sa.Column("redis_fault", FAULT, nullable=True))
    steps.create_index("ix_task_waiting", "task", ["task_type", "priority", "dispatch_at", "due_at"])
