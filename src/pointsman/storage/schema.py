"""All tables together: what migrations and their tests compare a database with."""

from pointsman.storage import budget_tables, cache_tables, identity_tables, ledger_tables, tables

metadata = tables.metadata
MODULES = (
    tables,
    identity_tables,
    ledger_tables,
    budget_tables,
    cache_tables,
)  # each adds its tables to `metadata` when imported
