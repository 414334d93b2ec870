"""Who holds leases of budgets and was heard of lately.

Revision ID: 0030
Revises: 0029
"""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Make the table. Leases that were given before do not expire; they end with their journals."""
    op.create_table(
        "budget_homes",
        sa.Column("home", sa.Text(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("lease_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("home", name="pk_budget_homes"),
    )
