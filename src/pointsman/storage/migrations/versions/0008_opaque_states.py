"""Reasoning state of recent answers, kept for clients that do not hand it back."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "opaque_states",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "key", name=op.f("pk_opaque_states")),
    )
    op.create_index(op.f("ix_opaque_states_expires_at_size"), "opaque_states", ["expires_at", "size"])
    op.create_index(op.f("ix_opaque_states_workspace_id_expires_at"), "opaque_states", ["workspace_id", "expires_at"])
