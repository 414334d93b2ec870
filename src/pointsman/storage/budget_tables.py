"""The tables of budgets: what may be spent, what was, and what processes hold for their calls.

``period`` is the beginning of a part of a window (canonical/windows.py), in us. Money is nano-USD. The rows of an
account's credit have a ``budget_id`` of "credit:" and the account's id, and no row in ``budgets``; nor have those of
guardrails, "guardrail:" with the guardrail's id, the kind of its window and whom it binds.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Index, Table, Text, UniqueConstraint, false, true

from pointsman.storage.tables import metadata

# ``alerts`` is JSON: percentages. ``source`` says who keeps it: operator, or the contract whose limit it is.
# ``include_byok``: what providers bill the callers themselves counts, too.
budgets: Final = Table(
    "budgets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("limit_nano_usd", BigInteger, nullable=False),
    Column("window_kind", Text, nullable=False),
    Column("window_seconds", BigInteger, nullable=False),
    Column("alerts", Text, nullable=False),
    Column("hard", Boolean, nullable=False, server_default=true()),
    Column("source", Text, nullable=False),
    Column("include_byok", Boolean, nullable=False, server_default=false()),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("scope", "subject", "window_kind", "window_seconds", "source"),
    CheckConstraint("limit_nano_usd >= 0", name="limit"),
)

Index(None, budgets.c.scope, budgets.c.id)
Index(None, budgets.c.subject, budgets.c.id)

# What was spent. ``opening_nano_usd`` of it was spent before the budget was made. ``recall`` grows when somebody is
# short of money: whoever holds some that no call needs gives it back.
budget_periods: Final = Table(
    "budget_periods",
    metadata,
    Column("budget_id", Text, primary_key=True),
    Column("period", BigInteger, primary_key=True, autoincrement=False),
    Column("spent_nano_usd", BigInteger, nullable=False, server_default="0"),
    Column("opening_nano_usd", BigInteger, nullable=False, server_default="0"),
    Column("calls", BigInteger, nullable=False, server_default="0"),
    Column("unpriced_calls", BigInteger, nullable=False, server_default="0"),
    Column("recall", BigInteger, nullable=False, server_default="0"),
)

# What a process was given, in all, and what of it the database knows as spent. The difference is held by it.
# ``holder`` is the process by its journal, ``home`` the directory of that.
budget_leases: Final = Table(
    "budget_leases",
    metadata,
    Column("budget_id", Text, primary_key=True),
    Column("period", BigInteger, primary_key=True, autoincrement=False),
    Column("holder", Text, primary_key=True),
    Column("home", Text, nullable=False),
    Column("granted_nano_usd", BigInteger, nullable=False),
    Column("settled_nano_usd", BigInteger, nullable=False, server_default="0"),
    Column("answered", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
Index(None, budget_leases.c.home)
Index(None, budget_leases.c.holder)

# Directories of journals whose processes have leases. ``beat`` grows whenever one of them is heard of; when it has not
# grown for ``lease_us``, their leases have expired. Its highest bits are the term (storage/budget_leases.py).
budget_homes: Final = Table(
    "budget_homes",
    metadata,
    Column("home", Text, primary_key=True),
    Column("beat", BigInteger, nullable=False),
    Column("lease_us", BigInteger, nullable=False),
)

# Thresholds that were passed, and whether the webhook knows. ``turn`` is the beginning of the window.
budget_alerts: Final = Table(
    "budget_alerts",
    metadata,
    Column("budget_id", Text, primary_key=True),
    Column("turn", BigInteger, primary_key=True, autoincrement=False),
    Column("threshold", BigInteger, primary_key=True, autoincrement=False),
    Column("spent_nano_usd", BigInteger, nullable=False),
    Column("limit_nano_usd", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("sent_at", BigInteger),
    Column("attempts", BigInteger, nullable=False, server_default="0"),
    Column("due_at", BigInteger),
)
Index(
    None,
    budget_alerts.c.due_at,
    sqlite_where=budget_alerts.c.due_at.is_not(None),
    postgresql_where=budget_alerts.c.due_at.is_not(None),
)
