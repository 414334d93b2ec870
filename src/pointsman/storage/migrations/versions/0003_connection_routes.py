"""Proxies and TLS files of connections."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; connections that exist have neither."""
    op.add_column("connections", sa.Column("sealed_proxy", sa.LargeBinary()))
    for name in ("ca_file", "client_certificate", "client_key"):
        op.add_column("connections", sa.Column(name, sa.Text()))
