"""The values of jobs' secrets, encrypted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.add_column("jobs", sa.Column("has_secrets", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "job_secrets",
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("key_id", sa.LargeBinary(8), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_job_secrets_job_id_jobs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", name="pk_job_secrets"),
    )


def downgrade() -> None:
    """Go back to the revision before.

    :raise RuntimeError: jobs' values are kept, which would be lost.
    """
    kept = op.get_bind().execute(sa.text("SELECT count(*) FROM job_secrets")).scalar_one()
    if kept:
        raise RuntimeError(f"the secrets of {kept} jobs are kept, and would be lost: let these jobs end first")
    op.drop_table("job_secrets")
    op.drop_column("jobs", "has_secrets")
