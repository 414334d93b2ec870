"""The tables of guardrails: rules on money, targets and content, and whom they bind."""

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Table, Text, UniqueConstraint

from pointsman.storage.tables import metadata

# ``rules`` is JSON (`storage.guardrails.GuardrailRules`). The limit stands beside it, since the escrow of budgets asks
# for it: each of those whom a guardrail binds has a budget of its own, with no row in ``budgets``.
guardrails: Final = Table(
    "guardrails",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("workspace_id", Text),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("limit_nano_usd", BigInteger),
    Column("window_kind", Text, nullable=False),
    Column("rules", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger),
)
Index(None, guardrails.c.account_id, guardrails.c.created_at)

# Whom a guardrail binds: a key or a member of its account, or all calls of a workspace or of the account. ``subject``
# is its id. Each has at most one.
guardrail_assignments: Final = Table(
    "guardrail_assignments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("guardrail_id", Text, ForeignKey("guardrails.id", ondelete="CASCADE"), nullable=False),
    Column("assigned_by", Text),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("account_id", "scope", "subject"),
)
Index(None, guardrail_assignments.c.guardrail_id)
