"""The audit log with its head, the generations of the master key, and failed sign-ins."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"

_INDEXES: Final = (("at",), *((name, "sequence") for name in ("action", "object_id", "user_id", "credential_id")))


def upgrade() -> None:
    """Make the tables; the log begins with an empty chain."""
    _make_audit()
    _make_head()
    _make_keys()
    _forbid_changes()


def _make_audit() -> None:
    text, number, blob = sa.Text(), sa.BigInteger(), sa.LargeBinary()
    optional = ("object_id", "account_id", "user_id", "credential_id", "credential_kind", "address", "request_id")
    op.create_table(
        "audit",
        sa.Column("sequence", number, autoincrement=False, nullable=False),
        sa.Column("at", number, nullable=False),
        *(sa.Column(name, text, nullable=False) for name in ("source", "action", "outcome")),
        sa.Column("status", number, nullable=False),
        sa.Column("object_kind", text, nullable=False),
        *(sa.Column(name, text) for name in optional),
        sa.Column("fields", text, nullable=False),
        sa.Column("digest", text),
        sa.Column("count", number, nullable=False),
        sa.Column("key_id", text, nullable=False),
        *(sa.Column(name, blob, nullable=False) for name in ("previous", "hash", "seal")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit")),
        sa.UniqueConstraint("previous", name=op.f("uq_audit_previous")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_hash")),
    )
    for columns in _INDEXES:
        op.create_index(op.f(f"ix_audit_{'_'.join(columns)}"), "audit", list(columns))


def _make_head() -> None:
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_one_row")),
    )
    names = ("id", "sequence", "hash", "key_id", "seal")
    head = sa.table("audit_head", *(sa.column(name) for name in names))
    op.get_bind().execute(head.insert().values(id=1, sequence=0, hash=bytes(32), key_id="", seal=b""))


def _make_keys() -> None:
    text, number, blob = sa.Text(), sa.BigInteger(), sa.LargeBinary()
    op.create_table(
        "master_keys",
        sa.Column("id", text, nullable=False),
        sa.Column("number", number, nullable=False),
        sa.Column("state", text, nullable=False),
        sa.Column("created_at", number, nullable=False),
        sa.Column("finished_at", number),
        sa.Column("forward", blob),
        sa.Column("backward", blob),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_master_keys")),
        sa.UniqueConstraint("number", name=op.f("uq_master_keys_number")),
    )
    op.create_table(
        "kept_keys",
        sa.Column("purpose", text, nullable=False),
        sa.Column("key_id", text, nullable=False),
        sa.Column("holder", text, nullable=False),
        sa.Column("sealed", blob, nullable=False),
        sa.PrimaryKeyConstraint("purpose", "key_id", "holder", name=op.f("pk_kept_keys")),
    )
    op.create_table(
        "sign_in_failures",
        sa.Column("source", text, nullable=False),
        sa.Column("instants", text, nullable=False),
        sa.Column("last_at", number, nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_sign_in_failures")),
    )
    op.create_index(op.f("ix_sign_in_failures_last_at"), "sign_in_failures", ["last_at"])


def _forbid_changes() -> None:
    """What is written stays, and the head goes on by one: also a mistake in this program can't rewrite the log."""
    if op.get_bind().dialect.name == "sqlite":
        for table, change, when in (
            ("audit", "UPDATE", ""),
            ("audit", "DELETE", ""),
            ("audit_head", "DELETE", ""),
            ("audit_head", "UPDATE", " WHEN NEW.sequence <> OLD.sequence + 1"),
        ):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table}{when}"
                " BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = '23514'; END $$"
    )
    for table, changes in (("audit", "UPDATE OR DELETE OR TRUNCATE"), ("audit_head", "DELETE OR TRUNCATE")):
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE {changes} ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()"
        )
    op.execute(
        "CREATE TRIGGER audit_head_forward BEFORE UPDATE ON audit_head FOR EACH ROW"
        " WHEN (NEW.sequence <> OLD.sequence + 1) EXECUTE FUNCTION audit_append_only()"
    )
