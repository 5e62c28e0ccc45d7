"""The queue by tenant, age and priority; decisions; what an attempt has cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go to this revision."""
    op.drop_index("ix_jobs_queue", table_name="jobs")
    op.add_column("jobs", sa.Column("queue_rank", sa.BigInteger(), server_default="0", nullable=False))
    # Only waiting jobs are looked up by it: a long history is left as it is.
    op.execute("UPDATE jobs SET queue_rank = submitted_at - CAST(priority AS BIGINT) * 60000000 WHERE ended_at IS NULL")
    op.create_index("ix_jobs_queue", "jobs", ["state", "tenant", "queue_rank", "number"])
    op.add_column("attempts", sa.Column("cost", sa.Float(), nullable=True))
    op.create_index("ix_workers_created_at", "workers", ["created_at"])
    op.create_table(
        "decisions",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(40), nullable=False),
        sa.Column("attempt_uid", sa.String(32), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("decision", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_decisions_job_id_jobs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name="pk_decisions"),
    )
    op.create_index("ix_decisions_job_id_number", "decisions", ["job_id", "number"])
    op.create_index("ix_decisions_tenant_number", "decisions", ["tenant", "number"])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table("decisions")
    op.drop_index("ix_workers_created_at", table_name="workers")
    # Not in a batch, which would copy the tables.
    op.drop_column("attempts", "cost")
    op.drop_index("ix_jobs_queue", table_name="jobs")
    op.drop_column("jobs", "queue_rank")
    op.create_index("ix_jobs_queue", "jobs", ["state", "priority", "number"])
