"""What many keys and requests need: indexes for lists, use by day and model added up, revisions of what binds keys.

Revision ID: 0029
Revises: 0028
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"

_DAY_US = 86_400_000_000
_LIMITED = "requests_per_minute IS NOT NULL OR requests_per_day IS NOT NULL OR tokens_per_minute IS NOT NULL"
_TOKENS = ("input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens")
_COMBO_SUMS = (
    "requests", "successes", "fallbacks", "duration_us", "success_us", "last_at", "failures", "failed_us", "failed_at",
)  # fmt: skip
_SINCE_RESET = (
    "created_at > COALESCE((SELECT MAX(reset_at) FROM combo_resets AS r WHERE r.combo IN ('', requests.combo)), 0)"
)
_ATTEMPTS_AT_ONCE = 5_000
_SUMS = ("requests", "charged_nano_usd", "byok_nano_usd", *_TOKENS)


def upgrade() -> None:
    """Add them, and fill the sums from the requests that are stored."""
    for part in ("people_revision", "budgets_revision"):
        op.add_column("configuration", sa.Column(part, sa.BigInteger(), server_default="0", nullable=False))
    _add_key_indexes()
    op.create_index("ix_budgets_scope_id", "budgets", ["scope", "id"])
    op.create_index("ix_budgets_subject_id", "budgets", ["subject", "id"])
    op.drop_index("ix_requests_workspace_id_created_at", "requests")
    op.drop_index("ix_requests_combo_created_at", "requests")
    cached: Any = sa.text("cache IS NOT NULL")
    op.create_index("ix_requests_cached", "requests", ["created_at"], sqlite_where=cached, postgresql_where=cached)
    op.create_index("ix_requests_listed", "requests", ["workspace_id", "created_at", "request_id"])
    _add_sums()
    for statement in sums():
        op.execute(statement)
    add_failed_attempts(op.get_bind())


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
    places = ("day", "workspace_id", "model", "provider", "connection_id")
    for table, whose in (("usage_days", ("account_id",)), ("key_usage_days", ("account_id", "key_id"))):
        names = (*whose, *places)
        op.create_table(
            table,
            *(sa.Column(name, sa.BigInteger() if name == "day" else sa.Text(), nullable=False) for name in names),
            *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _SUMS),
            sa.PrimaryKeyConstraint(*names, name=f"pk_{table}"),
            sqlite_with_rowid=False,
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
    op.create_table(
        "combo_days",
        sa.Column("combo", sa.Text(), nullable=False),
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COMBO_SUMS),
        sa.PrimaryKeyConstraint("combo", "day", "target", name="pk_combo_days"),
    )


def _short(expression: str) -> str:
    return f"SUBSTR({expression}, 1, 300)"


def sums() -> tuple[str, ...]:
    """The statements that add up the requests that are there; some seconds for a million of them."""
    day = f"created_at - created_at % {_DAY_US}"
    provider, model = _short("COALESCE(provider, '')"), _short("COALESCE(target, request_model, '')")
    tokens = ", ".join(f"SUM({name})" for name in _TOKENS)
    used = (
        f"{day}, workspace_id, {model}, {provider}, {_short('connection_id')}, COUNT(*),"
        " COALESCE(SUM(cost_nano_usd), 0),"
        f" COALESCE(SUM(CASE WHEN byok THEN upstream_cost_nano_usd ELSE 0 END), 0), {tokens} FROM requests"
        " WHERE connection_id IS NOT NULL"
    )
    target = _short("COALESCE(target, '')")
    good = "CASE WHEN outcome = 'success' THEN 1 ELSE 0 END"
    answered = _short("COALESCE(response_model, request_model, '')")
    return (
        f"INSERT INTO usage_days SELECT account_id, {used} GROUP BY 1, 2, 3, 4, 5, 6",
        f"INSERT INTO key_usage_days SELECT account_id, {_short('key_id')}, {used} AND key_id IS NOT NULL"
        " GROUP BY 1, 2, 3, 4, 5, 6, 7",
        f"INSERT INTO model_totals SELECT account_id, {provider}, {answered},"
        " SUM(input_tokens), SUM(output_tokens), COUNT(*), MAX(created_at) FROM requests"
        " WHERE outcome = 'success' AND route <> 'shadow' GROUP BY 1, 2, 3",
        f"INSERT INTO workspace_days SELECT workspace_id, {day}, COUNT(*) FROM requests GROUP BY 1, 2",
        f"INSERT INTO combo_days SELECT {_short('combo')}, {day}, {target}, COUNT(*),"
        f" SUM({good}), SUM(CASE WHEN attempts IS NULL THEN 0 ELSE {good} END), SUM(duration_us),"
        f" SUM(duration_us * {good}), MAX(created_at * 1000 + status), 0, 0, 0"
        f" FROM requests WHERE combo <> '' AND {_SINCE_RESET} GROUP BY 1, 2, 3",
    )


def add_failed_attempts(connection: sa.Connection) -> None:
    """Count attempts of combos that failed; their JSON is read here, since databases differ in how they read it."""
    page = sa.text(
        "SELECT sequence, combo, created_at, attempts FROM requests WHERE combo <> '' AND attempts IS NOT NULL"
        f" AND sequence > :behind AND {_SINCE_RESET} ORDER BY sequence LIMIT {_ATTEMPTS_AT_ONCE}"
    )
    names = ("combo", "day", "target", *_COMBO_SUMS)
    add = sa.text(
        f"INSERT INTO combo_days ({', '.join(names)}) VALUES (:combo, :day, :target, 0, 0, 0, 0, 0, 0, 1, :us, :at)"
        " ON CONFLICT (combo, day, target) DO UPDATE SET failures = combo_days.failures + 1,"
        " failed_us = combo_days.failed_us + excluded.failed_us, failed_at ="
        " CASE WHEN excluded.failed_at > combo_days.failed_at THEN excluded.failed_at ELSE combo_days.failed_at END"
    )
    behind = 0
    while found := connection.execute(page, {"behind": behind}).all():
        behind = found[-1].sequence
        failed = [values for row in found for values in _failures(row)]
        if failed:
            connection.execute(add, failed)


def _failures(row: Any) -> list[dict[str, Any]]:
    day, values = row.created_at - row.created_at % _DAY_US, []
    for attempt in json.loads(row.attempts):
        target, _, status, us = (*attempt, None, None, None, None)[:4]
        if isinstance(target, str) and (status or 0) >= 400:
            target = target[:300].replace("\0", "\ufffd")
            at = row.created_at * 1000 + status % 1000
            values.append({"combo": row.combo[:300], "day": day, "target": target, "us": us or 0, "at": at})
    return values
