"""Limits and priority of keys."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; keys that exist have no limit and the usual priority."""
    for name in ("requests_per_minute", "requests_per_day", "tokens_per_minute"):
        op.add_column("keys", sa.Column(name, sa.BigInteger()))
    op.add_column("keys", sa.Column("priority", sa.Text(), server_default="normal", nullable=False))
