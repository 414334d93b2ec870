"""The tables of the ledger (docs/ledger.md). Amounts are nano-USD: above 0 where value arrives, below where it leaves.

Transactions and postings are only ever added: triggers of the database refuse to change or delete them.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Table, Text, text

from pointsman.storage.tables import ROW_NUMBER, metadata

ledger_accounts: Final = Table(
    "ledger_accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

# `sequence` grows in the order of commit. A usage transaction sums up requests of one account: those whose own
# `sequence` is within first_request and last_request. ``subject`` is the id of what is refunded.
ledger_transactions: Final = Table(
    "ledger_transactions",
    metadata,
    Column("sequence", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("subject", Text),
    Column("requests", BigInteger, nullable=False),
    Column("first_request", BigInteger),
    Column("last_request", BigInteger),
    sqlite_autoincrement=True,
)
Index(
    None,
    ledger_transactions.c.subject,
    sqlite_where=ledger_transactions.c.subject.is_not(None),
    postgresql_where=ledger_transactions.c.subject.is_not(None),
)
# Whether an account ever paid something in.
Index(
    "ix_ledger_transactions_top_ups",
    ledger_transactions.c.account_id,
    sqlite_where=text("kind = 'top_up'"),
    postgresql_where=text("kind = 'top_up'"),
)

# One row for each ledger account that a transaction touches, so the first key lists an account's entries in order.
ledger_postings: Final = Table(
    "ledger_postings",
    metadata,
    Column("ledger_account", Text, primary_key=True),
    Column("transaction_sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("amount_nano_usd", BigInteger, nullable=False),
)
Index(None, ledger_postings.c.transaction_sequence)

# What the postings add up to: a projection, which `pointsman ledger rebuild` makes anew.
ledger_balances: Final = Table(
    "ledger_balances",
    metadata,
    Column("ledger_account", Text, primary_key=True),
    Column("balance_nano_usd", BigInteger, nullable=False),
    Column("postings", BigInteger, nullable=False),
    Column("last_transaction", BigInteger, nullable=False),
)
