"""A follower that speaks to the server itself: what each stream brings, without the Python client's bookkeeping."""

from __future__ import annotations

import asyncio
import random

import grpc
from grpc import aio

from hodei.transport import CHANNEL_OPTIONS
from hodei.v1 import log_pb2 as wire
from hodei.v1 import log_pb2_grpc
from hodei_client.connection import Responses
from hodei_torture.reading import Reading
from hodei_torture.site import Site

#: What a stream ends with that an accident has met.
BROKEN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


class WrongStreamError(Exception):
    """The server has sent what does not belong where it was sent."""


class Streamed:
    """What the server itself sends of one job's log: each sequence once and in order, on every stream.

    :ivar seen: what came, by attempt.
    :ivar streams: how many began: it leaves each after a while by itself and resumes.
    """

    def __init__(self, site: Site, job_id: str, expected: bytes, seed: int) -> None:
        self.seen: dict[int, Reading] = {}
        self.streams = 0
        self._site = site
        self._job_id = job_id
        self._expected = expected
        self._random = random.Random(seed)  # noqa: S311 - when to leave, not a secret
        self._attempt: int | None = 1
        self._next = 0

    async def follow(self) -> None:
        """Read the log to the end of the job, over whatever happens."""
        try:
            async with aio.insecure_channel(self._site.clients.address, options=CHANNEL_OPTIONS) as channel:
                stub: log_pb2_grpc.LogStreamServiceAsyncStub = log_pb2_grpc.LogStreamServiceStub(channel)
                while self._attempt is not None:
                    await self._read_for_a_while(stub)
        except WrongStreamError as error:
            self._site.faults.append(f"{self._job_id}: attempt {self._attempt}: a stream of the server's: {error}")

    async def _read_for_a_while(self, stub: log_pb2_grpc.LogStreamServiceAsyncStub) -> None:
        request = wire.StreamLogsRequest(job_id=self._job_id, attempt_number=self._attempt or 0, follow=True)
        if self._next:
            request.after_sequence = self._next - 1
        try:
            async with (
                asyncio.timeout(self._random.uniform(1.0, 10.0)),
                Responses(stub.StreamLogs(request)) as responses,
            ):
                async for response in responses:
                    self.take(response)
                    if response.HasField("end"):
                        return
        except TimeoutError:
            return
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND and self._attempt != 1:
                # The job ended before the attempt that might have followed.
                self._attempt = None
            elif error.code() not in BROKEN:
                raise WrongStreamError(f"it ended with {error.code().name}: {error.details()}") from None
        await asyncio.sleep(0.2)

    def take(self, response: wire.StreamLogsResponse) -> None:
        """Take what a stream brings.

        :raise WrongStreamError: it has no place there.
        """
        assert self._attempt is not None
        kind = response.WhichOneof("event")
        reading = self.seen.setdefault(self._attempt, Reading(self._expected))
        if kind == "start":
            self.streams += 1
            self._expect("start", response.start.first_sequence)
            if response.start.attempt_number != self._attempt:
                raise WrongStreamError(f"it is of attempt {response.start.attempt_number}")
        elif kind == "block":
            for chunk in response.block.chunks:
                self._expect("chunk", chunk.sequence)
                self._next += 1
                if chunk.stream == wire.LOG_STREAM_STDOUT:
                    reading.read(chunk.data)
        elif kind == "cut":
            # Who comes into the middle of what is cut is told of all of it.
            if not response.cut.first_sequence <= self._next <= response.cut.last_sequence:
                raise WrongStreamError(f"a cut where {self._next} belongs: {response.cut}")
            self._next = response.cut.last_sequence + 1
            reading.skip()
        elif kind == "heartbeat":
            self._expect("heartbeat", response.heartbeat.next_sequence)
        elif kind == "end":
            self._expect("end", response.end.next_sequence)
            self._next = 0
            self._attempt = response.end.next_attempt_number if response.end.another_attempt else None

    def _expect(self, what: str, sequence: int) -> None:
        if sequence != self._next:
            raise WrongStreamError(f"{what} {sequence} where {self._next} belongs")
