"""Combos, what holds for all of them, what they remember; fallback chains; which combo and target a request was for."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0016"

_TEXT, _NUMBER = sa.Text(), sa.BigInteger()
_TABLES: dict[str, list[tuple[str, sa.types.TypeEngine[Any]]]] = {
    "combo_options": [("name", _TEXT), ("value", _TEXT)],
    "fallback_chains": [("model", _TEXT), ("chain", _TEXT), ("updated_at", _NUMBER)],
    "combo_memories": [("combo", _TEXT), ("turn", _NUMBER), ("state", _TEXT), ("updated_at", _NUMBER)],
    "combo_resets": [("combo", _TEXT), ("reset_at", _NUMBER)],
}


def upgrade() -> None:
    """Make the tables, and the columns of requests."""
    op.create_table(
        "combos",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("sort_order", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_combos")),
        sa.UniqueConstraint("name", name=op.f("uq_combos_name")),
    )
    for table, columns in _TABLES.items():
        op.create_table(
            table,
            *(sa.Column(name, kind, nullable=False) for name, kind in columns),
            sa.PrimaryKeyConstraint(columns[0][0], name=op.f(f"pk_{table}")),
        )
    op.create_table(
        "combo_conversations",
        sa.Column("combo", sa.Text(), nullable=False),
        sa.Column("conversation", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("combo", "conversation", name=op.f("pk_combo_conversations")),
    )
    op.create_index(op.f("ix_combo_memories_updated_at"), "combo_memories", ["updated_at"])
    op.create_index(op.f("ix_combo_conversations_used_at"), "combo_conversations", ["used_at"])
    op.add_column("requests", sa.Column("combo", sa.Text()))
    op.add_column("requests", sa.Column("target", sa.Text()))
    op.create_index(
        op.f("ix_requests_combo_created_at"),
        "requests",
        ["combo", "created_at"],
        sqlite_where=sa.text("combo IS NOT NULL"),
        postgresql_where=sa.text("combo IS NOT NULL"),
    )
