"""What rules on content have found in a request."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Make the column."""
    op.add_column("requests", sa.Column("guards", sa.Text()))
