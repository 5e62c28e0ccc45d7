"""The tables. Log bytes are not in them.

Times are microseconds since 1970-01-01 UTC by the database's clock, so that they compare the same on every engine. A
`JobSpec` is kept in its encoded form; what queries need of it stands beside it in columns.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only where the key is a plain INTEGER.
RowNumber = BigInteger().with_variant(Integer, "sqlite")

#: Conditions of indexes that hold what the clocks of waiting jobs look for, and few others.
MAY_WAIT_TOO_LONG = "queue_deadline IS NOT NULL AND ended_at IS NULL"
BACKING_OFF = "not_before > 0 AND ended_at IS NULL"
#: Conditions of indexes that hold what retention looks for, and nothing else.
WITHOUT_LOGS = "ended_at IS NOT NULL AND logs_expire_at IS NULL AND expires_at IS NULL"
EXPIRING = "expires_at IS NOT NULL"


def beside_key(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column's value in a form that no index has: rows that a key or a narrower index names are found by it.

    SQLite has no statistics, and takes the index of states otherwise: all that is in a state is read each time.
    """
    return column + 0


#: One row: which installation this database is.
installation = Table(
    "installation",
    metadata,
    Column("installation_id", String(32), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    # Changes all the time, here and in the data folder: an older copy of the database is known by it.
    Column("generation", String(32), nullable=False, server_default=""),
    # The clock that rows go by, beside the time since the boot of the server's machine (see `clock`).
    Column("clock_boot_id", String(36), nullable=False, server_default=""),
    Column("clock_offset", BigInteger, nullable=False, server_default="0"),
    # By how much it was moved and nobody has confirmed it, in microseconds: nothing expires while it is not 0.
    Column("clock_moved", BigInteger, nullable=False, server_default="0"),
)

jobs = Table(
    "jobs",
    metadata,
    # The order of submission; pages and the queue go by it.
    Column("number", RowNumber, primary_key=True, autoincrement=True),
    Column("job_id", String(32), nullable=False, unique=True),
    Column("tenant", String(40), nullable=False),
    Column("principal", String(256), nullable=False),
    Column("name", String(253), nullable=False),
    Column("spec", LargeBinary, nullable=False),
    Column("request_id", String(128)),
    # What was asked under request_id, so that another job under the same one is noticed.
    Column("request_digest", LargeBinary(32)),
    Column("traceparent", String(64), nullable=False, server_default=""),
    Column("retry_of", String(32)),
    Column("state", SmallInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("priority", Integer, nullable=False, server_default="0"),
    # Its place among its tenant's waiting jobs, by age and priority, the lowest first.
    Column("queue_rank", BigInteger, nullable=False, server_default="0"),
    Column("submitted_at", BigInteger, nullable=False),
    # Not dispatched before: the back-off of a retry.
    Column("not_before", BigInteger, nullable=False, server_default="0"),
    # When the job must have been dispatched, by its queue timeout.
    Column("queue_deadline", BigInteger),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    # The newest attempt; 0 and null before the first.
    Column("attempt_number", Integer, nullable=False, server_default="0"),
    Column("attempt_uid", String(32)),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("infrastructure_failures", Integer, nullable=False, server_default="0"),
    Column("cancel_requested_at", BigInteger),
    Column("cancel_reason", Text),
    Column("cancel_grace_ms", BigInteger),
    # An encoded Outcome, once ended.
    Column("outcome", LargeBinary),
    # When the logs may go; set at the end, and null once they have gone.
    Column("logs_expire_at", BigInteger),
    # When all that is known of the job may go; set once its logs have gone.
    Column("expires_at", BigInteger),
    # Values of its secrets are in `job_secrets` until it ends.
    Column("has_secrets", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("tenant", "request_id"),
    # The queue: each tenant's, in its order.
    Index("ix_jobs_queue", "state", "tenant", "queue_rank", "number"),
    # Its clocks, of those jobs only that one runs for.
    Index(
        "ix_jobs_queue_deadline",
        "queue_deadline",
        sqlite_where=text(MAY_WAIT_TOO_LONG),
        postgresql_where=text(MAY_WAIT_TOO_LONG),
    ),
    Index("ix_jobs_not_before", "not_before", sqlite_where=text(BACKING_OFF), postgresql_where=text(BACKING_OFF)),
    # Lists, each in the order of its pages (see `job_listing`); the last one is for ranges of time.
    Index("ix_jobs_tenant_number", "tenant", "number"),
    Index("ix_jobs_tenant_state_number", "tenant", "state", "number"),
    # In an order of bytes everywhere, so that it serves a name's beginning, too.
    Index("ix_jobs_tenant_name_number", "tenant", "name", "number", postgresql_ops={"name": "varchar_pattern_ops"}),
    Index("ix_jobs_tenant_submitted_at", "tenant", "submitted_at"),
    Index("ix_jobs_logs_expire_at", "logs_expire_at"),
    # Retention's own, of few rows: those whose logs have gone just now, and those that may go.
    Index("ix_jobs_without_logs", "ended_at", sqlite_where=text(WITHOUT_LOGS), postgresql_where=text(WITHOUT_LOGS)),
    Index("ix_jobs_expires_at", "expires_at", sqlite_where=text(EXPIRING), postgresql_where=text(EXPIRING)),
    sqlite_autoincrement=True,
)

job_labels = Table(
    "job_labels",
    metadata,
    Column("key", String(317), primary_key=True),
    Column("value", String(63), primary_key=True),
    Column("job_number", BigInteger, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Index("ix_job_labels_job_number", "job_number"),
)

#: Values of secrets that came with a job, encrypted: from its submission to the move that ends it.
job_secrets = Table(
    "job_secrets",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    # Which key they are encrypted under.
    Column("key_id", LargeBinary(8), nullable=False),
    Column("data", LargeBinary, nullable=False),
)

#: What each move wrote: WatchJob's history.
job_events = Table(
    "job_events",
    metadata,
    Column("job_id", String(32), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("state", SmallInteger, nullable=False),
    Column("cause", SmallInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempt_number", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("attempt_uid", String(32), primary_key=True),
    Column("job_id", String(32), ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False),
    # The job's, for lists by provider.
    Column("job_number", BigInteger, nullable=False, server_default="0"),
    Column("number", Integer, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("provider", String(63), nullable=False),
    Column("worker_id", String(63), nullable=False),
    # Grows when the right to write the log changes hands.
    Column("epoch", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("start_deadline", BigInteger, nullable=False),
    # When the server steps in where the worker should have ended the process.
    Column("run_deadline", BigInteger),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    # The worker's result as it came, kept before it is acknowledged.
    Column("result", LargeBinary),
    Column("outcome", LargeBinary),
    # What it has cost, in the installation's unit; null where there are no prices.
    Column("cost", Float),
    # The log: what the worker numbered in all, and what became of it.
    Column("log_next_sequence", BigInteger),
    Column("log_ended", Boolean, nullable=False, server_default=false()),
    Column("log_complete", Boolean, nullable=False, server_default=false()),
    Column("log_expired", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("job_id", "number"),
    Index("ix_attempts_state", "state"),
    Index("ix_attempts_worker_id", "worker_id"),
    Index("ix_attempts_provider_job_number", "provider", "job_number"),
)

log_segments = Table(
    "log_segments",
    metadata,
    Column("attempt_uid", String(32), ForeignKey("attempts.attempt_uid", ondelete="CASCADE"), primary_key=True),
    Column("first_sequence", BigInteger, primary_key=True, autoincrement=False),
    # Which server's disk it is on.
    Column("owner", String(32), nullable=False),
    # A `SegmentState`.
    Column("state", SmallInteger, nullable=False),
    # From here on null until the segment is closed.
    Column("next_sequence", BigInteger),
    Column("bytes", BigInteger),
    Column("lines", BigInteger),
    Column("checksum", LargeBinary(32)),
    Column("first_time", BigInteger),
    Column("last_time", BigInteger),
    # What it takes in S3.
    Column("stored_bytes", BigInteger),
    # A `Place`: where there may be bytes of it.
    Column("place", SmallInteger, nullable=False, server_default="1"),
    Index("ix_log_segments_state_place", "state", "place"),
)

workers = Table(
    "workers",
    metadata,
    Column("worker_id", String(63), primary_key=True),
    Column("provider", String(63), nullable=False),
    Column("tenant", String(40), nullable=False),
    Column("state", SmallInteger, nullable=False),
    # What the worker was launched with: an encoded Resources and its image, for reuse.
    Column("resources", LargeBinary, nullable=False),
    Column("image", Text, nullable=False, server_default=""),
    Column("max_jobs", Integer, nullable=False),
    Column("jobs_done", Integer, nullable=False, server_default="0"),
    Column("attempt_uid", String(32)),
    # The provider's handle as JSON; null until launch returned.
    Column("handle", Text),
    Column("otp_hash", LargeBinary(32)),
    Column("otp_expires_at", BigInteger),
    Column("nonce_hash", LargeBinary(32)),
    Column("session_hash", LargeBinary(32), unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("registered_at", BigInteger),
    # The first hello burns the nonce: Register gives no session away a second time.
    Column("hello_at", BigInteger),
    Column("last_seen_at", BigInteger),
    # Set when its removal begins; it is gone once gone_at stands beside it.
    Column("removal_reason", Text),
    Column("gone_at", BigInteger),
    Index("ix_workers_state", "state"),
    # The newest, which say how long starts take.
    Index("ix_workers_created_at", "created_at"),
)

providers = Table(
    "providers",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("state", SmallInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
)

#: Where jobs went and why, and why they waited, each an encoded `hodei.v1.Decision`.
decisions = Table(
    "decisions",
    metadata,
    Column("number", RowNumber, primary_key=True, autoincrement=True),
    Column("job_id", String(32), ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False),
    Column("tenant", String(40), nullable=False),
    # The attempt that began with it; null while the job waited.
    Column("attempt_uid", String(32)),
    Column("at", BigInteger, nullable=False),
    Column("decision", LargeBinary, nullable=False),
    Index("ix_decisions_job_id_number", "job_id", "number"),
    Index("ix_decisions_tenant_number", "tenant", "number"),
)
