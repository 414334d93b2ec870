"""Budgets: what may be spent, what was, what processes hold; and the budgets that a request's cost counts in."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

_CHARGED: Final = sa.text("charges IS NOT NULL")
_DUE: Final = sa.text("due_at IS NOT NULL")


def upgrade() -> None:
    """Add the column and make the tables."""
    op.add_column("requests", sa.Column("charges", sa.Text()))
    op.create_index("ix_requests_charged", "requests", ["created_at"], sqlite_where=_CHARGED, postgresql_where=_CHARGED)
    text, number = sa.Text(), sa.BigInteger()
    op.create_table(
        "budgets",
        sa.Column("id", text, nullable=False),
        *(sa.Column(name, text, nullable=False) for name in ("scope", "subject")),
        sa.Column("limit_nano_usd", number, nullable=False),
        sa.Column("window_kind", text, nullable=False),
        sa.Column("window_seconds", number, nullable=False),
        sa.Column("alerts", text, nullable=False),
        sa.Column("hard", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("source", text, nullable=False),
        *(sa.Column(name, number, nullable=False) for name in ("created_at", "updated_at")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
        sa.UniqueConstraint(
            *("scope", "subject", "window_kind", "window_seconds", "source"),
            name=op.f("uq_budgets_scope_subject_window_kind_window_seconds_source"),
        ),
        sa.CheckConstraint("limit_nano_usd >= 0", name=op.f("ck_budgets_limit")),
    )
    _make_periods()
    _make_alerts()


def _make_periods() -> None:
    text, number = sa.Text(), sa.BigInteger()
    counted = ("spent_nano_usd", "opening_nano_usd", "calls", "unpriced_calls", "recall")
    op.create_table(
        "budget_periods",
        sa.Column("budget_id", text, nullable=False),
        sa.Column("period", number, nullable=False, autoincrement=False),
        *(sa.Column(name, number, nullable=False, server_default="0") for name in counted),
        sa.PrimaryKeyConstraint("budget_id", "period", name=op.f("pk_budget_periods")),
    )
    op.create_table(
        "budget_leases",
        sa.Column("budget_id", text, nullable=False),
        sa.Column("period", number, nullable=False, autoincrement=False),
        sa.Column("holder", text, nullable=False),
        sa.Column("home", text, nullable=False),
        sa.Column("granted_nano_usd", number, nullable=False),
        sa.Column("settled_nano_usd", number, nullable=False, server_default="0"),
        *(sa.Column(name, number, nullable=False) for name in ("answered", "updated_at")),
        sa.PrimaryKeyConstraint("budget_id", "period", "holder", name=op.f("pk_budget_leases")),
    )
    op.create_index(op.f("ix_budget_leases_home"), "budget_leases", ["home"])
    op.create_index(op.f("ix_budget_leases_holder"), "budget_leases", ["holder"])


def _make_alerts() -> None:
    text, number = sa.Text(), sa.BigInteger()
    op.create_table(
        "budget_alerts",
        sa.Column("budget_id", text, nullable=False),
        *(sa.Column(name, number, nullable=False, autoincrement=False) for name in ("turn", "threshold")),
        *(sa.Column(name, number, nullable=False) for name in ("spent_nano_usd", "limit_nano_usd", "created_at")),
        sa.Column("sent_at", number),
        sa.Column("attempts", number, nullable=False, server_default="0"),
        sa.Column("due_at", number),
        sa.PrimaryKeyConstraint("budget_id", "turn", "threshold", name=op.f("pk_budget_alerts")),
    )
    op.create_index(
        op.f("ix_budget_alerts_due_at"), "budget_alerts", ["due_at"], sqlite_where=_DUE, postgresql_where=_DUE
    )
