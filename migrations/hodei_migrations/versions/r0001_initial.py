"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "installation",
        sa.Column("installation_id", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("installation_id", name=op.f("pk_installation")),
    )
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("cause", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempt_number", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "version", name=op.f("pk_job_events")),
    )
    op.create_table(
        "jobs",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("principal", sa.String(length=256), nullable=False),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("spec", sa.LargeBinary(), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.Column("request_digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("traceparent", sa.String(length=64), server_default="", nullable=False),
        sa.Column("retry_of", sa.String(length=32), nullable=True),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("submitted_at", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("queue_deadline", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("attempt_number", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempt_uid", sa.String(length=32), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("infrastructure_failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column("cancel_grace_ms", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.LargeBinary(), nullable=True),
        sa.Column("logs_expire_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_jobs")),
        sa.UniqueConstraint("job_id", name=op.f("uq_jobs_job_id")),
        sa.UniqueConstraint("tenant", "request_id", name=op.f("uq_jobs_tenant_request_id")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index("ix_jobs_logs_expire_at", ["logs_expire_at"], unique=False)
        batch_op.create_index("ix_jobs_name", ["name", "number"], unique=False)
        batch_op.create_index("ix_jobs_queue", ["state", "priority", "number"], unique=False)

    op.create_table(
        "providers",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_providers")),
    )
    op.create_table(
        "workers",
        sa.Column("worker_id", sa.String(length=63), nullable=False),
        sa.Column("provider", sa.String(length=63), nullable=False),
        sa.Column("tenant", sa.String(length=40), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("resources", sa.LargeBinary(), nullable=False),
        sa.Column("image", sa.Text(), server_default="", nullable=False),
        sa.Column("max_jobs", sa.Integer(), nullable=False),
        sa.Column("jobs_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempt_uid", sa.String(length=32), nullable=True),
        sa.Column("handle", sa.Text(), nullable=True),
        sa.Column("otp_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("otp_expires_at", sa.BigInteger(), nullable=True),
        sa.Column("nonce_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("session_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=True),
        sa.Column("hello_at", sa.BigInteger(), nullable=True),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=True),
        sa.Column("removal_reason", sa.Text(), nullable=True),
        sa.Column("gone_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_workers")),
        sa.UniqueConstraint("session_hash", name=op.f("uq_workers_session_hash")),
    )
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.create_index("ix_workers_state", ["state"], unique=False)

    op.create_table(
        "attempts",
        sa.Column("attempt_uid", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("provider", sa.String(length=63), nullable=False),
        sa.Column("worker_id", sa.String(length=63), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("start_deadline", sa.BigInteger(), nullable=False),
        sa.Column("run_deadline", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("outcome", sa.LargeBinary(), nullable=True),
        sa.Column("log_next_sequence", sa.BigInteger(), nullable=True),
        sa.Column("log_ended", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("log_complete", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("log_expired", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_attempts_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("attempt_uid", name=op.f("pk_attempts")),
        sa.UniqueConstraint("job_id", "number", name=op.f("uq_attempts_job_id_number")),
    )
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.create_index("ix_attempts_provider_job_id", ["provider", "job_id"], unique=False)
        batch_op.create_index("ix_attempts_state", ["state"], unique=False)
        batch_op.create_index("ix_attempts_worker_id", ["worker_id"], unique=False)

    op.create_table(
        "job_labels",
        sa.Column("key", sa.String(length=317), nullable=False),
        sa.Column("value", sa.String(length=63), nullable=False),
        sa.Column("job_number", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_number"], ["jobs.number"], name=op.f("fk_job_labels_job_number_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", "value", "job_number", name=op.f("pk_job_labels")),
    )
    with op.batch_alter_table("job_labels", schema=None) as batch_op:
        batch_op.create_index("ix_job_labels_job_number", ["job_number"], unique=False)

    op.create_table(
        "log_segments",
        sa.Column("attempt_uid", sa.String(length=32), nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("next_sequence", sa.BigInteger(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=True),
        sa.Column("lines", sa.BigInteger(), nullable=True),
        sa.Column("checksum", sa.LargeBinary(length=32), nullable=True),
        sa.Column("first_time", sa.BigInteger(), nullable=True),
        sa.Column("last_time", sa.BigInteger(), nullable=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["attempt_uid"],
            ["attempts.attempt_uid"],
            name=op.f("fk_log_segments_attempt_uid_attempts"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("attempt_uid", "first_sequence", name=op.f("pk_log_segments")),
    )
    with op.batch_alter_table("log_segments", schema=None) as batch_op:
        batch_op.create_index("ix_log_segments_state", ["state"], unique=False)


def downgrade() -> None:
    """Go back to the one before."""
    with op.batch_alter_table("log_segments", schema=None) as batch_op:
        batch_op.drop_index("ix_log_segments_state")

    op.drop_table("log_segments")
    with op.batch_alter_table("job_labels", schema=None) as batch_op:
        batch_op.drop_index("ix_job_labels_job_number")

    op.drop_table("job_labels")
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.drop_index("ix_attempts_worker_id")
        batch_op.drop_index("ix_attempts_state")
        batch_op.drop_index("ix_attempts_provider_job_id")

    op.drop_table("attempts")
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.drop_index("ix_workers_state")

    op.drop_table("workers")
    op.drop_table("providers")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index("ix_jobs_queue")
        batch_op.drop_index("ix_jobs_name")
        batch_op.drop_index("ix_jobs_logs_expire_at")

    op.drop_table("jobs")
    op.drop_table("job_events")
    op.drop_table("installation")
