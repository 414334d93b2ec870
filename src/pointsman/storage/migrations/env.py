"""Runs the scripts on the connection and in the transaction that `pointsman.storage.migration` hands over."""

from alembic import context

from pointsman.storage import budget_tables  # noqa: F401 - its tables belong to the metadata
from pointsman.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
