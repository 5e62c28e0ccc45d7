"""Calls about logs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from hodei.v1 import log_pb2
from hodei_client.calls import Calls
from hodei_client.logs import LogEvent, LogPlace, LogReader
from hodei_client.search import LogSearch, SearchEvent


class LogCalls(Calls):
    """Follows, searches, verifies and prunes logs."""

    def logs(
        self,
        job_id: str,
        *,
        place: LogPlace | None = None,
        follow: bool = True,
        streams: Sequence[int] = (),
        verify: bool = True,
        compress: bool = False,
    ) -> AsyncIterator[LogEvent]:
        """Yield a job's log: chunks, cuts and ends of attempts, each once and in order.

        :param place: where to begin; the newest attempt's first chunk when None.
        :param follow: wait for what is to come, and go on with the next attempt after a retry.
        :param streams: only these; all when empty.
        :param verify: compare the bytes with the receipt where all of an attempt were seen.
        :param compress: have the server compress what it sends; it costs both sides processor time.
        :raise LogIntegrityError: they differ.
        """
        return LogReader(
            self._connected.logs,
            self._connected,
            job_id,
            place=place or LogPlace(),
            follow=follow,
            streams=streams,
            verify=verify,
            patience=self.settings.patience,
            compress=compress,
        ).events()

    def search(
        self,
        job_id: str,
        pattern: str,
        *,
        literal: bool = False,
        ignore_case: bool = False,
        place: LogPlace | None = None,
        follow: bool = False,
        streams: Sequence[int] = (),
    ) -> AsyncIterator[SearchEvent]:
        """Yield the lines of a job's log that match, each once; the server searches, other lines don't travel.

        :param pattern: an expression in RE2's syntax, matched against each line; `literal`, the text itself.
        :param place: where to begin and to end; the newest attempt's whole log when None.
        :param follow: wait for what is to come, and go on with the next attempt after a retry.
        :param streams: only these; all when empty.
        :raise InvalidRequestError: the pattern is no expression.
        """
        return LogSearch(
            self._connected.logs,
            self._connected,
            job_id,
            place=place or LogPlace(),
            follow=follow,
            streams=streams,
            patience=self.settings.patience,
            pattern=pattern,
            literal=literal,
            ignore_case=ignore_case,
        ).events()

    def verify_logs(self, job_id: str = "", *, tenant: str = "") -> AsyncIterator[log_pb2.VerifyLogsResponse]:
        """Have the logs of a job, or of all of a tenant's, read and compared with their receipts; yield what was found.

        :raise UnavailableError: the connection broke; what was not yielded was not verified.
        """
        request = log_pb2.VerifyLogsRequest(job_id=job_id)
        if not job_id:
            request.tenant = tenant or self.settings.tenant
        return self._answers(self._connected.logs.VerifyLogs, request)

    def prune_logs(self, *, dry_run: bool = False) -> AsyncIterator[log_pb2.PruneLogsResponse]:
        """Have the server remove the logs of all tenants that have expired, and jobs; yield what has gone so far.

        :param dry_run: have it tell what would go, in one answer.
        :raise UnavailableError: the connection broke; retention goes on with what is left.
        """
        return self._answers(self._connected.logs.PruneLogs, log_pb2.PruneLogsRequest(dry_run=dry_run))

    async def receipt(self, job_id: str, *, attempt: int = 0) -> log_pb2.LogReceipt:
        """Return what a log amounts to; the newest attempt's unless one is named."""
        response: log_pb2.GetLogReceiptResponse = await self._call(
            self._connected.logs.GetLogReceipt, log_pb2.GetLogReceiptRequest(job_id=job_id, attempt_number=attempt)
        )
        return response.receipt
