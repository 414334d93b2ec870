"""What many keys and requests need: indexes for lists, use by day and model added up, revisions of what binds keys.

Revision ID: 0029
Revises: 0028
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"

_DAY_US = 86_400_000_000
_LIMITED = "requests_per_minute IS NOT NULL OR requests_per_day IS NOT NULL OR tokens_per_minute IS NOT NULL"
_TOKENS = ("input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens")
_SUMS = ("requests", "charged_nano_usd", "byok_nano_usd", *_TOKENS)


def upgrade() -> None:
    for part in ("people_revision", "budgets_revision"):
        op.add_column("configuration", sa.Column(part, sa.BigInteger(), server_default="0", nullable=False))
    _add_key_indexes()
    op.create_index("ix_budgets_scope_id", "budgets", ["scope", "id"])
    op.create_index("ix_budgets_subject_id", "budgets", ["subject", "id"])
    op.drop_index("ix_requests_workspace_id_created_at", "requests")
    cached: Any = sa.text("cache IS NOT NULL")
    op.create_index("ix_requests_cached", "requests", ["created_at"], sqlite_where=cached, postgresql_where=cached)
    op.create_index("ix_requests_listed", "requests", ["workspace_id", "created_at", "request_id"])
    _add_sums()
    for statement in sums():
        op.execute(statement)


def _add_key_indexes() -> None:
    op.create_index("ix_keys_name", "keys", ["name"])
    op.create_index("ix_keys_created_at", "keys", ["created_at"])
    listed = ["account_id", "kind", "created_at", "id", "role", "workspace_id", "disabled", "expires_at"]
    for name, columns, condition in (
        ("listed", listed, "revoked_at IS NULL"),
        ("limited", ["id"], _LIMITED),
        ("agents", ["id"], "kind = 'crosscompute_agent'"),
        ("admins", ["id"], "role = 'admin'"),
    ):
        where: Any = sa.text(condition)
        op.create_index(f"ix_keys_{name}", "keys", columns, sqlite_where=where, postgresql_where=where)


def _add_sums() -> None:
    names = ("account_id", "day", "workspace_id", "model", "provider", "connection_id")
    op.create_table(
        "usage_days",
        *(sa.Column(name, sa.BigInteger() if name == "day" else sa.Text(), nullable=False) for name in names),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint(*names, name="pk_usage_days"),
    )
    op.create_table(
        "model_totals",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("account_id", "provider", "model")),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("input_tokens", "output_tokens", "requests", "newest_at")
        ),
        sa.PrimaryKeyConstraint("account_id", "provider", "model", name="pk_model_totals"),
    )
    op.create_table(
        "workspace_days",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "day", name="pk_workspace_days"),
    )


def _short(expression: str) -> str:
    return f"SUBSTR({expression}, 1, 300)"


def sums() -> tuple[str, ...]:
    """The statements that add up the requests that are there; some seconds for a million of them."""
    day = f"created_at - created_at % {_DAY_US}"
    provider, model = _short("COALESCE(provider, '')"), _short("COALESCE(target, request_model, '')")
    answered = _short("COALESCE(response_model, request_model, '')")
    tokens = ", ".join(f"SUM({name})" for name in _TOKENS)
    return (
        f"INSERT INTO usage_days SELECT account_id, {day}, workspace_id, {model}, {provider},"
        f" {_short('connection_id')}, COUNT(*), COALESCE(SUM(cost_nano_usd), 0),"
        f" COALESCE(SUM(CASE WHEN byok THEN upstream_cost_nano_usd ELSE 0 END), 0), {tokens}"
        " FROM requests WHERE connection_id IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6",
        f"INSERT INTO model_totals SELECT account_id, {provider}, {answered},"
        " SUM(input_tokens), SUM(output_tokens), COUNT(*), MAX(created_at) FROM requests"
        " WHERE outcome = 'success' AND route <> 'shadow' GROUP BY 1, 2, 3",
        f"INSERT INTO workspace_days SELECT workspace_id, {day}, COUNT(*) FROM requests GROUP BY 1, 2",
    )
