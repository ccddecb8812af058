"""Fewer indexes on `task`: each change of a state had to keep four of them in order, and now two."""

from atm.store.migrations import steps

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Only a PENDING task has a dispatch_at.
    steps.replace_index("ix_task_dispatch", "task", ["dispatch_at"])
    # What is PROCESSING is found by ix_task_status_id: as many as there are
    # threads, however long the table.
    steps.drop_index("ix_task_worker", "task")
    steps.drop_index("ix_task_deadline", "task")
