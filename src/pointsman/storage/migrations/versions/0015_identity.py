"""Accounts, people, workspaces; and the keys become the one table of credentials."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Make the tables with the account and workspace "default", to which every key that exists belongs."""
    _make_accounts()
    _make_people()
    _widen_keys()
    now = sa.literal(0)
    accounts = sa.table("accounts", *(sa.column(name) for name in ("id", "kind", "name", "created_at", "updated_at")))
    op.execute(
        accounts.insert().values(id="default", kind="system", name="This installation", created_at=now, updated_at=now)
    )
    names = ("id", "account_id", "slug", "name", "created_at", "updated_at")
    workspaces = sa.table("workspaces", *(sa.column(name) for name in names))
    op.execute(
        workspaces.insert().values(
            id="default", account_id="default", slug="default", name="Default", created_at=now, updated_at=now
        )
    )


def _make_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text()),
        sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("settings", sa.Text(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("kind", "external_id", name=op.f("uq_accounts_kind_external_id")),
    )
    op.create_index(op.f("ix_accounts_kind_created_at"), "accounts", ["kind", "created_at"])
    op.create_table(
        "workspaces",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("settings", sa.Text(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workspaces")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_workspaces_account_id_accounts")),
        sa.UniqueConstraint("account_id", "slug", name=op.f("uq_workspaces_account_id_slug")),
    )


def _make_people() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text()),
        sa.Column("first_name", sa.Text()),
        sa.Column("last_name", sa.Text()),
        sa.Column("role", sa.Text(), server_default="user", nullable=False),
        sa.Column("password", sa.Text()),
        sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("last_login_at", sa.BigInteger()),
        sa.Column("tokens_from", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_users_account_id_accounts")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
    )
    op.create_index(op.f("ix_users_account_id"), "users", ["account_id"])
    op.create_index(op.f("ix_users_created_at"), "users", ["created_at"])
    op.create_table(
        "user_logins",
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_user_logins")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_user_logins_user_id_users"), ondelete="CASCADE"
        ),
    )
    op.create_index(op.f("ix_user_logins_user_id"), "user_logins", ["user_id"])
    op.create_table(
        "members",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "user_id", name=op.f("pk_members")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_members_account_id_accounts"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_members_user_id_users"), ondelete="CASCADE"),
    )
    op.create_index(op.f("ix_members_user_id"), "members", ["user_id"])


def _widen_keys() -> None:
    # SQLite can't change a constraint: there the table is copied.
    with op.batch_alter_table("keys", recreate="auto") as keys:
        keys.drop_constraint(op.f("ck_keys_role"), type_="check")
        keys.create_check_constraint(op.f("ck_keys_role"), "role IN ('admin', 'management', 'inference')")
        keys.add_column(sa.Column("kind", sa.Text(), server_default="plain", nullable=False))
        keys.add_column(sa.Column("account_id", sa.Text(), server_default="default", nullable=False))
        keys.add_column(sa.Column("user_id", sa.Text()))
        keys.add_column(sa.Column("creator_user_id", sa.Text()))
        keys.add_column(sa.Column("scopes", sa.Text(), server_default="[]", nullable=False))
        keys.add_column(sa.Column("fingerprint", sa.Text()))
        keys.add_column(sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False))
        keys.add_column(sa.Column("updated_at", sa.BigInteger()))
        keys.add_column(sa.Column("settings", sa.Text(), server_default="{}", nullable=False))
        keys.add_column(sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False))
        keys.create_unique_constraint(op.f("uq_keys_fingerprint"), ["fingerprint"])
    for name in ("account_id", "workspace_id", "user_id"):
        op.create_index(op.f(f"ix_keys_{name}_created_at"), "keys", [name, "created_at"])
    op.create_index(op.f("ix_keys_revision"), "keys", ["revision"])
