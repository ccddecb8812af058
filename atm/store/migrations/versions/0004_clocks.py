"""How far the clock of each worker and each server is ahead of the database's."""

import sqlalchemy as sa

from atm.store.migrations import steps

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("worker", "server"):
        # With a default: workers of the version before go on adding rows without it.
        column = sa.Column("clock_ahead_ms", sa.BigInteger(), nullable=False, server_default="0")
        steps.add_column(table, column)
