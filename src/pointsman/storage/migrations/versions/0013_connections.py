"""What the connections API keeps: names, tags, headers, further keys, results of tests, and compatible APIs."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the columns, empty for connections that exist, and make the tables."""
    for name in ("name", "display_name", "default_model", "ca_certificates", "node_id", "prefix"):
        op.add_column("connections", sa.Column(name, sa.Text()))
    for name in ("excluded_models", "tags"):
        op.add_column("connections", sa.Column(name, sa.Text(), server_default="[]", nullable=False))
    for name in ("sealed_headers", "sealed_extra"):
        op.add_column("connections", sa.Column(name, sa.LargeBinary()))
    op.create_table(
        "connection_tests",
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("tested_at", sa.BigInteger(), nullable=False),
        sa.Column("valid", sa.Boolean(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("message", sa.Text()),
        sa.Column("status", sa.Integer()),
        sa.Column("latency_ms", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("connection_id", name=op.f("pk_connection_tests")),
    )
    op.create_table(
        "provider_nodes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("api_type", sa.Text()),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("chat_path", sa.Text()),
        sa.Column("models_path", sa.Text()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_nodes")),
        sa.UniqueConstraint("prefix", name=op.f("uq_provider_nodes_prefix")),
    )
