"""Guardrails and whom they bind; budgets that count what providers bill callers themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Make the tables, and the column: no budget has counted it before."""
    op.add_column("budgets", sa.Column("include_byok", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "guardrails",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Text()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("limit_nano_usd", sa.BigInteger()),
        sa.Column("window_kind", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_guardrails")),
    )
    op.create_index(op.f("ix_guardrails_account_id_created_at"), "guardrails", ["account_id", "created_at"])
    op.create_table(
        "guardrail_assignments",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("guardrail_id", sa.Text(), nullable=False),
        sa.Column("assigned_by", sa.Text()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["guardrail_id"],
            ["guardrails.id"],
            name=op.f("fk_guardrail_assignments_guardrail_id_guardrails"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_guardrail_assignments")),
        sa.UniqueConstraint(
            "account_id", "scope", "subject", name=op.f("uq_guardrail_assignments_account_id_scope_subject")
        ),
    )
    op.create_index(op.f("ix_guardrail_assignments_guardrail_id"), "guardrail_assignments", ["guardrail_id"])
