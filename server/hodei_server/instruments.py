"""What is counted and timed as it happens. Labels hold names and words of a closed list, never ids.

Servers that share a process share these, as its memory and its processor time.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

REGISTRY = CollectorRegistry()
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library declares none here
ProcessCollector(namespace="hodei", registry=REGISTRY)

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_WAITS = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)

CALLS_REFUSED = Counter("hodei_calls_refused", "Calls that were refused as too many were under way.", registry=REGISTRY)
JOB_MOVES = Counter(
    "hodei_job_moves",
    "Moves of jobs into a state, and for what cause; those into queued are submissions and retries.",
    ("state", "cause"),
    registry=REGISTRY,
)
QUEUE_WAIT = Histogram(
    "hodei_queue_wait_seconds",
    "From a job's submission, or the end of its back-off, to its being given to a worker.",
    registry=REGISTRY,
    buckets=_WAITS,
)
ATTEMPTS_ENDED = Counter("hodei_attempts_ended", "Ended attempts.", ("provider", "outcome", "cause"), registry=REGISTRY)
WORKER_CREATION = Histogram(
    "hodei_worker_creation_seconds",
    "A launch by its provider, until the worker exists there.",
    ("provider",),
    registry=REGISTRY,
    buckets=_SLOW,
)
WORKER_START = Histogram(
    "hodei_worker_start_seconds",
    "From a worker's being written down to its hello.",
    ("provider",),
    registry=REGISTRY,
    buckets=_SLOW,
)
LAUNCH_FAILURES = Counter(
    "hodei_worker_launch_failures", "Launches that failed.", ("provider", "cause"), registry=REGISTRY
)
LOG_RECEIVED = Counter(
    "hodei_log_received_bytes", "Encoded log that workers have sent and that was new.", registry=REGISTRY
)
LOG_SENT = Counter("hodei_log_sent_bytes", "Encoded log that went to those who stream logs.", registry=REGISTRY)
LOG_ACKNOWLEDGEMENT = Histogram(
    "hodei_log_acknowledgement_seconds",
    "From a log block's arrival to its being durable; of blocks written together, the first one's.",
    registry=REGISTRY,
    buckets=_FAST,
)
LOG_COMMIT = Histogram(
    "hodei_log_commit_seconds",
    "A write of gathered log blocks and the syncs that make it durable.",
    registry=REGISTRY,
    buckets=_FAST,
)
DATABASE_COMMIT = Histogram(
    "hodei_database_commit_seconds",
    "A transaction of gathered writes, its commit included.",
    registry=REGISTRY,
    buckets=_FAST,
)
LOOP_LAG = Histogram(
    "hodei_event_loop_lag_seconds",
    "How late the event loop runs what is due, looked at twice a second.",
    registry=REGISTRY,
    buckets=_FAST,
)
OUTAGES = Counter(
    "hodei_loop_outages",
    "How often one of the server's loops began again as the database, the disk or a provider had failed it.",
    ("loop",),
    registry=REGISTRY,
)
PROVIDER_CHECK = Histogram(
    "hodei_provider_check_seconds",
    "How long a provider took to say how it is.",
    ("provider",),
    registry=REGISTRY,
    buckets=_SLOW,
)
