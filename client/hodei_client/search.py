"""Searching a log where it lies, over any number of broken connections: each matching line once and in order."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator
from typing import Any

from hodei.v1 import log_pb2 as wire
from hodei_client.connection import Responses
from hodei_client.logs import AttemptEnd, AttemptsReader, Cut, set_place, set_until


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A line that matches, with its newline unless its stream ended without one.

    :param sequence: of the chunk in which it begins, at byte `offset`.
    :param time: of that chunk, nanoseconds since 1970-01-01 UTC.
    :param stream: STDOUT, STDERR or SYSTEM.
    :param partial: a piece of a line that is longer than 1 MiB; another piece follows it in the log.
    """

    attempt_number: int
    sequence: int
    offset: int
    time: int
    stream: int
    data: bytes
    partial: bool = False


SearchEvent = Line | Cut | AttemptEnd


class LogSearch(AttemptsReader):
    """Searches a job's log.

    :param pattern: an expression in RE2's syntax or, `literal`, the text itself.
    """

    def __init__(self, *arguments: Any, pattern: str, literal: bool, ignore_case: bool, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._pattern = pattern
        self._literal = literal
        self._ignore_case = ignore_case
        self._positions: wire.LogPositions | None = None

    def _request(self) -> wire.SearchLogsRequest:
        request = wire.SearchLogsRequest(
            job_id=self._job_id,
            follow=self._follow,
            streams=self._streams,
            pattern=self._pattern,
            literal=self._literal,
            ignore_case=self._ignore_case,
        )
        self._name(request)
        if self._positions is None:
            set_place(request, self._place)
        else:
            request.positions.CopyFrom(self._positions)
            set_until(request, self._place)
        return request

    async def _stream(self) -> AsyncGenerator[SearchEvent, None]:
        request, metadata = self._request(), self._connection.metadata()
        async with Responses(self._stub.SearchLogs(request, metadata=metadata)) as responses:
            async for response in responses:
                kind = response.WhichOneof("event")
                if kind == "start":
                    self._enter(response.start)
                    continue
                self._endurance.served()
                if kind == "lines":
                    # First what was told, then where to go on: who leaves in between asks for it again.
                    for line in response.lines.lines:
                        yield Line(
                            self._number,
                            line.sequence,
                            line.offset,
                            line.time_unix_nanos,
                            line.stream,
                            line.data,
                            line.partial,
                        )
                    self._positions = response.lines.next
                elif kind == "cut":
                    cut = response.cut
                    yield Cut(self._number, cut.first_sequence, cut.last_sequence, cut.bytes, cut.lines, cut.expired)
                    if response.HasField("next"):  # an older server doesn't say
                        self._positions = response.next
                elif kind == "end":
                    end = self._leave(response.end)
                    self._positions = None
                    yield end
                    return
