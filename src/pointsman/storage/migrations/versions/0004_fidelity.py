"""What translation did to a request."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; requests of before were not translated."""
    op.add_column("requests", sa.Column("fidelity", sa.Text()))
