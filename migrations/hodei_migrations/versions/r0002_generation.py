"""Which of a database's copies was the last one in use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    with op.batch_alter_table("installation") as table:
        table.add_column(sa.Column("generation", sa.String(length=32), server_default="", nullable=False))


def downgrade() -> None:
    """Go back to the revision before."""
    with op.batch_alter_table("installation") as table:
        table.drop_column("generation")
