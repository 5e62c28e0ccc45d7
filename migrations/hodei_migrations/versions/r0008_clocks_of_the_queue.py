"""Indexes for the clocks of waiting jobs, however many wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_jobs_queue_deadline", "queue_deadline", sa.text("queue_deadline IS NOT NULL AND ended_at IS NULL")),
    ("ix_jobs_not_before", "not_before", sa.text("not_before > 0 AND ended_at IS NULL")),
)


def upgrade() -> None:
    """Go to this revision."""
    for name, column, where in INDEXES:
        op.create_index(name, "jobs", [column], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Go back to the revision before."""
    for name, _, _ in INDEXES:
        op.drop_index(name, table_name="jobs")
