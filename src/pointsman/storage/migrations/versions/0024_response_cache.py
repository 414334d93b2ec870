"""What the response cache did for a request; since when its entries count."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Add the columns and make the table; requests of before had no cache."""
    op.add_column("requests", sa.Column("cache", sa.Text()))
    op.add_column("requests", sa.Column("cache_source", sa.Text()))
    op.create_table(
        "cache_clearings",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("cleared_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_cache_clearings")),
    )
