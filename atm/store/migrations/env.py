"""Alembic's entry: runs the migrations on the connection that atm.store.schema hands over."""

from alembic import context
from sqlmodel import SQLModel

from atm import models  # noqa: F401 - the tables

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=SQLModel.metadata, compare_type=True, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
