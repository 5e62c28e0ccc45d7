"""From rows to messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.engine import RowMapping

from hodei.v1 import job_pb2, provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_server.domain.workers import WorkerState
from hodei_server.work.placing import NO_TENANT


def timestamp(micros: int) -> Timestamp:
    """Return a row's time."""
    result = Timestamp()
    result.FromMicroseconds(micros)
    return result


def job_message(row: RowMapping) -> wire.Job:
    """Return a job without its attempts."""
    job = wire.Job(
        job_id=row["job_id"],
        spec=wire.JobSpec.FromString(row["spec"]),
        state=row["state"],
        reason=row["reason"],
        principal=row["principal"],
        retry_of=row["retry_of"] or "",
        traceparent=row["traceparent"],
        version=row["version"],
        submit_time=timestamp(row["submitted_at"]),
    )
    if row["started_at"] is not None:
        job.start_time.CopyFrom(timestamp(row["started_at"]))
    if row["ended_at"] is not None:
        job.end_time.CopyFrom(timestamp(row["ended_at"]))
    if row["cancel_requested_at"] is not None:
        job.cancel_request_time.CopyFrom(timestamp(row["cancel_requested_at"]))
    if row["outcome"] is not None:
        job.outcome.ParseFromString(row["outcome"])
    return job


def attempt_message(row: RowMapping) -> wire.Attempt:
    """Return an attempt."""
    attempt = wire.Attempt(
        attempt_uid=row["attempt_uid"],
        number=row["number"],
        state=row["state"],
        provider=row["provider"],
        worker_id=row["worker_id"],
        create_time=timestamp(row["created_at"]),
    )
    if row["started_at"] is not None:
        attempt.start_time.CopyFrom(timestamp(row["started_at"]))
    if row["ended_at"] is not None:
        attempt.end_time.CopyFrom(timestamp(row["ended_at"]))
    if row["outcome"] is not None:
        attempt.outcome.ParseFromString(row["outcome"])
    if row["cost"] is not None:
        attempt.cost = row["cost"]
    return attempt


def decision_of(row: RowMapping, *, with_spec: bool = False) -> job_pb2.Decision:
    """Return a decision, with what became of its attempt.

    :param with_spec: and with its job's spec, without secrets.
    """
    decision = job_pb2.Decision.FromString(row["decision"])
    decision.time.CopyFrom(timestamp(row["at"]))
    if row["started_at"] is not None:
        decision.started_after_seconds = (row["started_at"] - row["created_at"]) / 1e6
        if row["ended_at"] is not None:
            decision.ran_seconds = (row["ended_at"] - row["started_at"]) / 1e6
    if row["cost"] is not None:
        decision.cost = row["cost"]
    if with_spec:
        decision.spec.ParseFromString(row["spec"])
        decision.spec.ClearField("secrets")
    return decision


def event_message(row: RowMapping) -> job_pb2.JobEvent:
    """Return a move of a job."""
    return job_pb2.JobEvent(
        version=row["version"],
        state=row["state"],
        cause=row["cause"],
        reason=row["reason"],
        attempt_number=row["attempt_number"],
        time=timestamp(row["at"]),
    )


def worker_message(row: Mapping[str, Any], *, connected: bool) -> provider_pb2.Worker:
    """Return a worker; its row has its attempt's job_id beside it."""
    worker = provider_pb2.Worker(
        worker_id=row["worker_id"],
        provider=row["provider"],
        state=row["state"],
        job_id=row["job_id"] or "",
        tenant=row["tenant"],
        create_time=timestamp(row["created_at"]),
        connected=connected,
        jobs_done=row["jobs_done"],
        warm=row["state"] == int(WorkerState.IDLE) and row["tenant"] == NO_TENANT,
    )
    if row["registered_at"] is not None:
        worker.register_time.CopyFrom(timestamp(row["registered_at"]))
    if row["last_seen_at"] is not None:
        worker.last_seen_time.CopyFrom(timestamp(row["last_seen_at"]))
    return worker
