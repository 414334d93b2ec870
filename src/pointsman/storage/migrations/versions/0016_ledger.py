"""The ledger: accounts, transactions, postings, balances; who pays for a request, and what it costs upstream.

What the requests of before have cost becomes one usage transaction of the account that pays when nothing is said.
"""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_UNPRICED: Final = sa.text("cost_nano_usd IS NULL AND input_tokens + output_tokens > 0")
_APPEND_ONLY: Final = ("ledger_transactions", "ledger_postings")
_ROW_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the columns, make the tables, and bring the ledger up to the requests that are there."""
    op.add_column("requests", sa.Column("account_id", sa.Text(), server_default="default", nullable=False))
    op.add_column("requests", sa.Column("upstream_cost_nano_usd", sa.BigInteger()))
    op.add_column("requests", sa.Column("byok", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("requests", sa.Column("exemption", sa.Text()))
    op.create_index(op.f("ix_requests_account_id_created_at"), "requests", ["account_id", "created_at"])
    op.create_index(
        "ix_requests_unpriced", "requests", ["created_at"], sqlite_where=_UNPRICED, postgresql_where=_UNPRICED
    )
    _make_tables()
    _open_books()
    _forbid_changes()


def _make_tables() -> None:
    text, number = sa.Text(), sa.BigInteger()
    op.create_table(
        "ledger_accounts",
        sa.Column("id", text, nullable=False),
        sa.Column("kind", text, nullable=False),
        sa.Column("owner", text, nullable=False),
        sa.Column("created_at", number, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_accounts")),
    )
    op.create_table(
        "ledger_transactions",
        sa.Column("sequence", _ROW_NUMBER, autoincrement=True, nullable=False),
        *(sa.Column(name, text, nullable=False) for name in ("idempotency_key", "kind", "account_id")),
        sa.Column("created_at", number, nullable=False),
        *(sa.Column(name, text, nullable=False) for name in ("source", "note")),
        sa.Column("subject", text),
        sa.Column("requests", number, nullable=False),
        sa.Column("first_request", number),
        sa.Column("last_request", number),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_ledger_transactions")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_ledger_transactions_idempotency_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_ledger_transactions_subject"),
        "ledger_transactions",
        ["subject"],
        sqlite_where=sa.text("subject IS NOT NULL"),
        postgresql_where=sa.text("subject IS NOT NULL"),
    )
    op.create_table(
        "ledger_postings",
        sa.Column("ledger_account", text, nullable=False),
        sa.Column("transaction_sequence", number, autoincrement=False, nullable=False),
        sa.Column("amount_nano_usd", number, nullable=False),
        sa.PrimaryKeyConstraint("ledger_account", "transaction_sequence", name=op.f("pk_ledger_postings")),
    )
    op.create_index(op.f("ix_ledger_postings_transaction_sequence"), "ledger_postings", ["transaction_sequence"])
    op.create_table(
        "ledger_balances",
        sa.Column("ledger_account", text, nullable=False),
        *(sa.Column(name, number, nullable=False) for name in ("balance_nano_usd", "postings", "last_transaction")),
        sa.PrimaryKeyConstraint("ledger_account", name=op.f("pk_ledger_balances")),
    )


def _open_books() -> None:
    """Post the charges of the requests that are there as one transaction, which has the number 1."""
    bind = op.get_bind()
    rows = bind.execute(
        sa.text(
            "SELECT coalesce(nullif(provider, ''), connection_id, 'unknown') AS provider, sum(cost_nano_usd) AS cost,"
            " count(*) AS requests, min(sequence) AS first, max(sequence) AS last, max(created_at) AS newest"
            " FROM requests WHERE cost_nano_usd > 0 GROUP BY 1"
        )
    ).all()
    if not rows:
        return
    total, newest = sum(int(row.cost) for row in rows), max(row.newest for row in rows)
    bind.execute(
        sa.text(
            "INSERT INTO ledger_transactions (idempotency_key, kind, account_id, created_at, source, note, requests,"
            " first_request, last_request) VALUES ('usage:opening', 'usage', 'default', :newest, 'requests',"
            " 'requests from before the ledger', :requests, :first, :last)"
        ),
        {
            "newest": newest,
            "requests": sum(row.requests for row in rows),
            "first": min(row.first for row in rows),
            "last": max(row.last for row in rows),
        },
    )
    postings = [("credit:default", "credit", "default", -total), ("usage", "usage", "", total)]
    postings.append(("upstream_costs", "upstream_costs", "", -total))
    postings += [(f"provider:{row.provider}", "provider", row.provider, int(row.cost)) for row in rows]
    _post(bind, postings, newest)


def _post(bind: Any, postings: list[tuple[str, str, str, int]], now: int) -> None:
    for account, kind, owner, amount in postings:
        values = {"id": account, "kind": kind, "owner": owner, "now": now, "amount": amount}
        for statement in (
            "INSERT INTO ledger_accounts (id, kind, owner, created_at) VALUES (:id, :kind, :owner, :now)",
            "INSERT INTO ledger_postings VALUES (:id, 1, :amount)",
            "INSERT INTO ledger_balances VALUES (:id, :amount, 1, 1)",
        ):
            bind.execute(sa.text(statement), values)


def _forbid_changes() -> None:
    """What is posted stays: also a mistake in this program can't rewrite it."""
    if op.get_bind().dialect.name == "sqlite":
        for table in _APPEND_ONLY:
            for change in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table}"
                    " BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
                )
        return
    op.execute(
        "CREATE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = '23514'; END $$"
    )
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only()"
        )
