"""Verifying logs: one job's, or those of all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from sqlalchemy import select

from hodei.v1 import log_pb2 as wire
from hodei_server.db.jobs import job_row
from hodei_server.db.schema import attempts, jobs
from hodei_server.db.transaction import Transaction
from hodei_server.domain.errors import InvalidRequestError, NotFoundError, Violation
from hodei_server.domain.spec import check_tenant, check_text
from hodei_server.logs.verify import verify_segments
from hodei_server.rpc.log_lookup import AttemptLog, LogLookup
from hodei_server.rpc.requests import refuse

#: Jobs whose attempts are looked up at once.
PAGE = 100


async def verify_logs(lookup: LogLookup, request: wire.VerifyLogsRequest) -> AsyncIterator[wire.VerifyLogsResponse]:
    """Yield what the logs of one job, or of a tenant's, are found to be: the oldest first, one at a time.

    :raise InvalidRequestError: both a job and a tenant are given.
    :raise NotFoundError: there is no such job.
    """
    refuse([*check_text("job_id", request.job_id, 128), *check_tenant("tenant", request.tenant)])
    if request.job_id and request.tenant:
        raise InvalidRequestError([Violation("tenant", "can't go with job_id")])
    if request.job_id:
        job_id = request.job_id
        row = await lookup.read(lambda tx: job_row(tx, job_id))
        if row is None:
            raise NotFoundError("job", job_id)
        for log in await lookup.read(lambda tx: _logs_of(tx, [job_id])):
            yield await _verify(lookup, log)
        return
    tenant, after = request.tenant or "default", 0
    while True:
        page = await lookup.read(lambda tx, after=after: _jobs_after(tx, tenant, after))  # type: ignore[misc]
        if not page:
            return
        ids, after = [job_id for job_id, _ in page], page[-1][1]
        for log in await lookup.read(lambda tx, ids=ids: _logs_of(tx, ids)):  # type: ignore[misc]
            try:
                found = await _verify(lookup, log)
            except NotFoundError:
                continue  # its job was removed meanwhile
            yield found


async def _verify(lookup: LogLookup, log: AttemptLog) -> wire.VerifyLogsResponse:
    state = await lookup.look(log)
    response = wire.VerifyLogsResponse(
        job_id=log.job_id, attempt_uid=log.attempt_uid, attempt_number=log.number, receipt=state.receipt
    )
    response.segments.extend(await verify_segments(lookup.book.store, state.segments))
    return response


def _jobs_after(tx: Transaction, tenant: str, number: int) -> Sequence[tuple[str, int]]:
    columns = jobs.c
    query = (
        select(columns.job_id, columns.number)
        .where(columns.tenant == tenant, columns.number > number)
        .order_by(columns.number)
        .limit(PAGE)
    )
    return [(row.job_id, row.number) for row in tx.execute(query)]


def _logs_of(tx: Transaction, job_ids: Sequence[str]) -> Sequence[AttemptLog]:
    columns = attempts.c
    query = (
        select(columns.job_id, columns.attempt_uid, columns.number)
        .where(columns.job_id.in_(job_ids))
        .order_by(columns.job_number, columns.number)
    )
    return [AttemptLog(row.job_id, row.attempt_uid, row.number) for row in tx.execute(query)]
