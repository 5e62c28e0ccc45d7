"""Many workers in one process: each has a connection of its own and speaks the protocol; their jobs run nothing.

fleet_process.py FOLDER: a file in the folder is a launch (see `fleet_provider`). A job's attempt is started at
once, writes the line `hi`, and ends with code 0 as soon as the file FOLDER/../open is there; then the worker is idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path

from grpc import aio

from hodei.address import parse_address
from hodei.checksum import chunk_checksum, encode_checksum
from hodei.transport import open_channel
from hodei.v1 import log_pb2, worker_pb2, worker_pb2_grpc
from hodei.v1 import types_pb2 as types_wire

LINE = b"hi\n"
Stream = aio.StreamStreamCall[worker_pb2.ConnectRequest, worker_pb2.ConnectResponse]


class FakeWorker:
    """One worker.

    :param opened: set when attempts may end.
    """

    def __init__(self, worker_id: str, launch: dict[str, str], opened: asyncio.Event) -> None:
        self._worker_id = worker_id
        self._launch = launch
        self._opened = opened
        self._run: worker_pb2.RunAttempt | None = None
        self._ending: asyncio.Task[None] | None = None

    async def live(self) -> None:
        """Register, then serve the session over any number of connections until the server ends it."""
        async with open_channel(parse_address(self._launch["server"])) as channel:
            stub: worker_pb2_grpc.WorkerServiceAsyncStub = worker_pb2_grpc.WorkerServiceStub(channel)
            request = worker_pb2.RegisterRequest(
                worker_id=self._worker_id, otp=self._launch["otp"], nonce=os.urandom(16), protocol_version=1
            )
            registered = await stub.Register(request, wait_for_ready=True)
            metadata = (("authorization", f"Bearer {registered.session_token}"),)
            closed = False
            while not closed:
                stream: Stream = stub.Connect(metadata=metadata, wait_for_ready=True)
                with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError):
                    closed = await self._serve(stream)
                if self._ending is not None:
                    self._ending.cancel()
                if not closed:
                    await asyncio.sleep(0.1)

    async def _serve(self, stream: Stream) -> bool:
        """Serve one connection; return whether the session is over."""
        hello = worker_pb2.WorkerHello(protocol_version=1, time_unix_nanos=time.time_ns())
        if self._run is not None:
            run = self._run
            hello.attempts.add(
                attempt_uid=run.attempt_uid,
                epoch=run.epoch,
                next_sequence=run.first_sequence + 1,
                first_held_sequence=run.first_sequence,
                started=True,
            )
        await stream.write(worker_pb2.ConnectRequest(hello=hello))
        while True:
            message = await stream.read()
            if not isinstance(message, worker_pb2.ConnectResponse):
                return False
            kind = message.WhichOneof("message")
            if kind == "welcome" and self._run is not None:
                if message.welcome.attempts[0].abandon:
                    self._run = None
                else:
                    await self._begin(stream, self._run)
            elif kind == "run":
                self._run = message.run
                await self._begin(stream, message.run)
            elif kind == "ping":
                pong = worker_pb2.WorkerPong(number=message.ping.number)
                await stream.write(worker_pb2.ConnectRequest(pong=pong))
            elif kind == "result_ack":
                self._run = None
            elif kind in {"drain", "closed"}:
                return True

    async def _begin(self, stream: Stream, run: worker_pb2.RunAttempt) -> None:
        """Say that an attempt runs, and write its line; a server that has both ignores them."""
        started = worker_pb2.AttemptStarted(
            attempt_uid=run.attempt_uid, epoch=run.epoch, pid=1, time_unix_nanos=time.time_ns()
        )
        await stream.write(worker_pb2.ConnectRequest(started=started))
        chunk = log_pb2.LogChunk(
            sequence=run.first_sequence,
            time_unix_nanos=time.time_ns(),
            stream=log_pb2.LOG_STREAM_STDOUT,
            data=LINE,
        )
        block = log_pb2.LogBlock(chunks=[chunk]).SerializeToString()
        log = worker_pb2.LogBlocks(attempt_uid=run.attempt_uid, epoch=run.epoch, block=block)
        await stream.write(worker_pb2.ConnectRequest(log=log))
        self._ending = asyncio.create_task(self._end(stream, run))

    async def _end(self, stream: Stream, run: worker_pb2.RunAttempt) -> None:
        await self._opened.wait()
        result = worker_pb2.AttemptResult(
            attempt_uid=run.attempt_uid,
            epoch=run.epoch,
            cause=types_wire.CAUSE_EXIT_CODE,
            exit_code=0,
            next_sequence=run.first_sequence + 1,
            log_bytes=len(LINE),
            log_checksum=encode_checksum(chunk_checksum(run.first_sequence, log_pb2.LOG_STREAM_STDOUT, LINE)),
            time_unix_nanos=time.time_ns(),
        )
        with contextlib.suppress(aio.AioRpcError):
            await stream.write(worker_pb2.ConnectRequest(result=result))


async def serve(folder: Path) -> None:
    """Play the workers of a folder until killed."""
    opened = asyncio.Event()
    known: set[str] = set()
    async with asyncio.TaskGroup() as group:
        while True:
            for name in os.listdir(folder):  # noqa: PTH208 - names are all that is needed
                if name.startswith("w") and name not in known:
                    known.add(name)
                    launch = json.loads((folder / name).read_text())
                    group.create_task(FakeWorker(name, launch, opened).live())
            if (folder.parent / "open").exists():
                opened.set()
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
