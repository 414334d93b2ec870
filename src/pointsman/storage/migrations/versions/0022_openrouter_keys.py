"""What keys have spent by day; whether an account ever paid something in; codes that programs exchange for keys."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"

_DAY_US = 86_400_000_000
# The figures of what is there already.
_FILL = f"""
INSERT INTO key_days (key_id, day, charged_nano_usd, byok_nano_usd)
SELECT key_id, created_at - created_at % {_DAY_US}, sum(coalesce(cost_nano_usd, 0)),
       sum(CASE WHEN byok THEN coalesce(upstream_cost_nano_usd, 0) ELSE 0 END)
FROM requests
WHERE key_id IS NOT NULL AND (coalesce(cost_nano_usd, 0) <> 0 OR coalesce(upstream_cost_nano_usd, 0) <> 0)
GROUP BY 1, 2
"""


def upgrade() -> None:
    """Make the tables, fill the one of what was spent, and make the index."""
    op.create_table(
        "key_days",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("charged_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("byok_nano_usd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "day", name=op.f("pk_key_days")),
    )
    op.execute(sa.text(_FILL))
    op.create_index(
        "ix_ledger_transactions_top_ups",
        "ledger_transactions",
        ["account_id"],
        sqlite_where=sa.text("kind = 'top_up'"),
        postgresql_where=sa.text("kind = 'top_up'"),
    )
    op.create_table(
        "authorization_codes",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text()),
        sa.Column("challenge", sa.Text()),
        sa.Column("method", sa.Text()),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_authorization_codes")),
    )
    op.create_index(op.f("ix_authorization_codes_expires_at"), "authorization_codes", ["expires_at"])
