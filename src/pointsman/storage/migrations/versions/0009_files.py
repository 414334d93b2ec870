"""Whose uploaded file is whose, and at which connection."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "files",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("wire", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text()),
        sa.Column("size_bytes", sa.BigInteger()),
        sa.Column("purpose", sa.Text()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "wire", "id", name=op.f("pk_files")),
    )
    op.create_index(op.f("ix_files_wire_id"), "files", ["wire", "id"])
    op.create_index(op.f("ix_files_expires_at"), "files", ["expires_at"])
    op.create_index(op.f("ix_files_workspace_id_created_at"), "files", ["workspace_id", "created_at"])
