"""Runs the scripts on the connection and in the transaction that `pointsman.storage.migration` hands over."""

from alembic import context

from pointsman.storage import identity_tables as identity_tables  # its tables are known to `metadata` once imported
from pointsman.storage import ledger_tables  # noqa: F401 - its tables join the others
from pointsman.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
