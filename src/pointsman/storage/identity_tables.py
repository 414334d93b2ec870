"""The tables of who is who: accounts, their members and workspaces, and people. Credentials are `tables.keys`.

An account is who pays and who owns: a person's, an organization's, an agent's, or the gateway's own ("default").
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Table, Text, UniqueConstraint, false

from pointsman.storage.tables import metadata

# ``kind``: user, organization, agent or system. ``external_id`` is the name that its owner gave it (an agent's own id).
accounts: Final = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("external_id", Text),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("settings", Text, nullable=False, server_default="{}"),
    UniqueConstraint("kind", "external_id"),
)
Index(None, accounts.c.kind, accounts.c.created_at)

# ``email`` is in lower case. ``password`` is an argon2id hash in PHC form; without one nobody signs in by password.
# Tokens that were issued before ``tokens_from`` are void.
users: Final = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("email", Text, unique=True),
    Column("first_name", Text),
    Column("last_name", Text),
    Column("role", Text, nullable=False, server_default="user"),
    Column("password", Text),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("last_login_at", BigInteger),
    Column("tokens_from", BigInteger),
)
Index(None, users.c.account_id)
Index(None, users.c.created_at)

# Who a person is at another issuer (OpenID Connect, an external issuer of JWTs).
user_logins: Final = Table(
    "user_logins",
    metadata,
    Column("issuer", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
Index(None, user_logins.c.user_id)

# People of an organization. ``role``: org:admin or org:member.
members: Final = Table(
    "members",
    metadata,
    Column("account_id", Text, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("role", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
Index(None, members.c.user_id)

workspaces: Final = Table(
    "workspaces",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("slug", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("settings", Text, nullable=False, server_default="{}"),
    UniqueConstraint("account_id", "slug"),
)
