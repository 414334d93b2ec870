"""How often a stored connection may be called in a day.

Revision ID: 0031
Revises: 0030
"""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    """Add the column. Connections that are there have no such limit."""
    op.add_column("connections", sa.Column("requests_per_day", sa.BigInteger()))
