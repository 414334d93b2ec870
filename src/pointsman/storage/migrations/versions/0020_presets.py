"""Presets of requests, and limits of stored connections."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Make the table and the columns."""
    op.create_table(
        "presets",
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slug", name=op.f("pk_presets")),
    )
    for name in ("requests_per_minute", "tokens_per_minute"):
        op.add_column("connections", sa.Column(name, sa.BigInteger()))
