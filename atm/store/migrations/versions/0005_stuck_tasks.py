"""Which tasks hold a thread of each worker although their attempts have ended."""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from atm.store.migrations import steps

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


TEXT = sa.Text().with_variant(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql")


def upgrade() -> None:
    # Without a value: workers of the version before go on adding rows without it.
    steps.add_column("worker", sa.Column("stuck_tasks", TEXT, nullable=True))
