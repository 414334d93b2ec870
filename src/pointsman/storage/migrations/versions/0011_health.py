"""What fails at upstreams, shared by all processes; the resilience settings that were changed while running."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make both tables, and the one row of the second."""
    op.create_table(
        "health_states",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "name", name=op.f("pk_health_states")),
    )
    op.create_index(op.f("ix_health_states_revision"), "health_states", ["revision"])
    resilience = op.create_table(
        "resilience",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("overrides", sa.Text(), server_default="{}", nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_resilience_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resilience")),
    )
    op.bulk_insert(resilience, [{"id": 1, "revision": 0, "overrides": "{}"}])
