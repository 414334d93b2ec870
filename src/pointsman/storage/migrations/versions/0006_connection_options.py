"""What an operator says of a connection beyond its address: project, location, api_version ..."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column; connections that exist have none."""
    op.add_column("connections", sa.Column("options", sa.Text(), server_default="{}", nullable=False))
