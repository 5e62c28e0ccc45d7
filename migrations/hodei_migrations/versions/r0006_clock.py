"""The clock that rows go by, and by how much it was moved."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    with op.batch_alter_table("installation") as table:
        table.add_column(sa.Column("clock_boot_id", sa.String(length=36), server_default="", nullable=False))
        table.add_column(sa.Column("clock_offset", sa.BigInteger(), server_default="0", nullable=False))
        table.add_column(sa.Column("clock_moved", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    """Go back to the revision before."""
    with op.batch_alter_table("installation") as table:
        for name in ("clock_boot_id", "clock_offset", "clock_moved"):
            table.drop_column(name)
