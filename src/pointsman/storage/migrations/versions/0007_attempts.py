"""Which targets failed before the one that answered."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; requests of before had one target only."""
    op.add_column("requests", sa.Column("attempts", sa.Text()))
