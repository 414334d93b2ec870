"""Runs the scripts on the connection and in the transaction that `pointsman.storage.migration` hands over."""

from alembic import context

from pointsman.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
