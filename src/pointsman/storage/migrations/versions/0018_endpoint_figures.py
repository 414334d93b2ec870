"""How endpoints have done, added up; what processes tell each other of measurements and conversations."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "endpoint_figures",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("measure", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("target", "measure", "slot", "place", name=op.f("pk_endpoint_figures")),
    )
    op.create_index(op.f("ix_endpoint_figures_measure_slot"), "endpoint_figures", ["measure", "slot"])
    op.create_table(
        "measurements",
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("writer", "target", "slot", name=op.f("pk_measurements")),
    )
    op.create_index(op.f("ix_measurements_revision"), "measurements", ["revision"])
    op.create_index(op.f("ix_measurements_slot"), "measurements", ["slot"])
    op.create_table(
        "conversation_places",
        sa.Column("conversation", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("conversation", name=op.f("pk_conversation_places")),
    )
    op.create_index(op.f("ix_conversation_places_revision"), "conversation_places", ["revision"])
    op.create_index(op.f("ix_conversation_places_used_at"), "conversation_places", ["used_at"])
    sharing = op.create_table(
        "route_sharing",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_route_sharing_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_route_sharing")),
    )
    op.bulk_insert(sharing, [{"id": 1, "revision": 0}])
