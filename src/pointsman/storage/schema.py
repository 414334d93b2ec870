"""All tables together: what migrations and their tests compare a database with."""

from pointsman.storage import (
    audit,
    authorization_codes,
    budget_tables,
    cache_tables,
    combo_days,
    combo_tables,
    guardrail_tables,
    guards,
    identity_tables,
    key_usage,
    ledger_tables,
    master_keys,
    payments,
    sign_in_failures,
    tables,
    usage_sums,
)

metadata = tables.metadata
# Each adds its tables to `metadata` when imported.
MODULES = (
    tables,
    identity_tables,
    ledger_tables,
    budget_tables,
    guardrail_tables,
    cache_tables,
    combo_tables,
    guards,
    key_usage,
    authorization_codes,
    payments,
    audit,
    master_keys,
    sign_in_failures,
    usage_sums,
    combo_days,
)
