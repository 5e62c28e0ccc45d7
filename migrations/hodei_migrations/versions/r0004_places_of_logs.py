"""Where a log's segments are, and how long jobs are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WITHOUT_LOGS = sa.text("ended_at IS NOT NULL AND logs_expire_at IS NULL AND expires_at IS NULL")
EXPIRING = sa.text("expires_at IS NOT NULL")


def upgrade() -> None:
    """Go to this revision."""
    # Not in a batch, which would copy the tables.
    op.add_column("log_segments", sa.Column("place", sa.SmallInteger(), server_default="1", nullable=False))
    # What was cut or has expired was removed at once; an empty one never had bytes.
    op.execute("UPDATE log_segments SET place = 0 WHERE state IN (4, 5) OR next_sequence = first_sequence")
    op.drop_index("ix_log_segments_state", table_name="log_segments")
    op.create_index("ix_log_segments_state_place", "log_segments", ["state", "place"])
    op.add_column("jobs", sa.Column("expires_at", sa.BigInteger()))
    for name, column, where in (
        ("ix_jobs_without_logs", "ended_at", WITHOUT_LOGS),
        ("ix_jobs_expires_at", "expires_at", EXPIRING),
    ):
        op.create_index(name, "jobs", [column], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_index("ix_jobs_expires_at", table_name="jobs")
    op.drop_index("ix_jobs_without_logs", table_name="jobs")
    # Not in a batch: on SQLite that drops the table, and with it what hangs on its rows.
    op.drop_column("jobs", "expires_at")
    op.drop_index("ix_log_segments_state_place", table_name="log_segments")
    op.drop_column("log_segments", "place")
    op.create_index("ix_log_segments_state", "log_segments", ["state"])
