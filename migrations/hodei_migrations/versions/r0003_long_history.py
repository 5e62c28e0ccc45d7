"""Indexes that keep lists fast however long the history is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    # Not in a batch, which would copy the tables.
    op.drop_index("ix_jobs_name", table_name="jobs")
    op.create_index("ix_jobs_tenant_number", "jobs", ["tenant", "number"])
    op.create_index("ix_jobs_tenant_state_number", "jobs", ["tenant", "state", "number"])
    op.create_index(
        "ix_jobs_tenant_name_number",
        "jobs",
        ["tenant", "name", "number"],
        postgresql_ops={"name": "varchar_pattern_ops"},
    )
    op.create_index("ix_jobs_tenant_submitted_at", "jobs", ["tenant", "submitted_at"])
    op.drop_index("ix_attempts_provider_job_id", table_name="attempts")
    op.add_column("attempts", sa.Column("job_number", sa.BigInteger(), server_default="0", nullable=False))
    op.execute("UPDATE attempts SET job_number = (SELECT number FROM jobs WHERE jobs.job_id = attempts.job_id)")
    op.create_index("ix_attempts_provider_job_number", "attempts", ["provider", "job_number"])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_index("ix_attempts_provider_job_number", table_name="attempts")
    # Not in a batch: on SQLite that drops the table, and with it what hangs on its rows.
    op.drop_column("attempts", "job_number")
    op.create_index("ix_attempts_provider_job_id", "attempts", ["provider", "job_id"])
    for name in ("submitted_at", "name_number", "state_number", "number"):
        op.drop_index(f"ix_jobs_tenant_{name}", table_name="jobs")
    op.create_index("ix_jobs_name", "jobs", ["name", "number"])
