"""The bare work that figures are compared with: gRPC without Hodei, processes without Hodei, a pipe."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from grpc import aio

PROCESS = str(Path(__file__).with_name("peer_process.py"))
#: Bytes of a block, as the worker reads from its pipes.
BLOCK = 64 << 10


@contextlib.asynccontextmanager
async def peer_process(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run a part of `peer_process.py`; yield the process and the first line it prints (a server's address)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, PROCESS, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def two_hops(size: int, block: int = BLOCK) -> float:
    """Send bytes through two chained gRPC streams (put, relay, follower: three processes); return seconds.

    :param size: bytes in all.
    :param block: bytes of a message.
    """
    async with (
        peer_process("serve") as (_, address),
        peer_process("put", address, str(size), str(block)) as (put, _),
        aio.insecure_channel(address) as channel,
    ):
        follow: aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/bench.Bench/Follow")
        stream = follow(b"")
        assert put.stdin is not None
        began = time.perf_counter()
        put.stdin.write(b"go\n")
        received = 0
        async for message in stream:
            received += len(message)
        assert received == size, (received, size)
        return time.perf_counter() - began


async def pipe(file: Path) -> float:
    """Read what `cat` writes into a pipe, in reads of 64 KiB; return seconds."""

    def read() -> float:
        began = time.perf_counter()
        received = 0
        with subprocess.Popen(["cat", str(file)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while block := os.read(process.stdout.fileno(), BLOCK):
                received += len(block)
        assert received == file.stat().st_size
        return time.perf_counter() - began

    return await asyncio.to_thread(read)


def _echo() -> float:
    began = time.perf_counter()
    done = subprocess.run(["/bin/echo", "hi"], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"hi\n"
    return time.perf_counter() - began


def fork_exec_times(count: int) -> list[float]:
    """Run `echo hi` so often, one after the other, with its output in hand; return seconds for each."""
    return [_echo() for _ in range(count)]


async def fork_exec_rate(count: int) -> float:
    """Run `echo hi` so often, as many at once as there are processors; return how many in a second."""

    def run() -> float:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            began = time.perf_counter()
            for _ in pool.map(lambda _: _echo(), range(count)):
                pass
            return count / (time.perf_counter() - began)

    return await asyncio.to_thread(run)


async def unary_times(count: int) -> list[float]:
    """Make unary gRPC calls to another process, one after the other; return seconds for each."""
    async with peer_process("serve") as (_, address), aio.insecure_channel(address) as channel:
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/bench.Bench/Unary")
        for _ in range(10):
            await call(b"x")
        times = []
        for _ in range(count):
            began = time.perf_counter()
            await call(b"x")
            times.append(time.perf_counter() - began)
        return times


async def unary_rate(count: int, at_once: int) -> float:
    """Make unary gRPC calls to another process; return how many in a second.

    :param at_once: calls under way at once.
    """
    async with peer_process("serve") as (_, address), aio.insecure_channel(address) as channel:
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/bench.Bench/Unary")
        await call(b"x")
        numbers = iter(range(count))

        async def call_some() -> None:
            for _ in numbers:
                await call(b"x")

        began = time.perf_counter()
        await asyncio.gather(*(call_some() for _ in range(at_once)))
        return count / (time.perf_counter() - began)


async def echo_times(count: int, pause: float) -> list[float]:
    """Send messages on one bidirectional stream that another process echoes; return the seconds of each round trip.

    :param pause: seconds between them.
    """
    async with peer_process("serve") as (_, address), aio.insecure_channel(address) as channel:
        echo: aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/bench.Bench/Echo")
        stream = echo()
        times = []
        for _ in range(count):
            began = time.perf_counter()
            await stream.write(b"x" * 40)
            await stream.read()
            times.append(time.perf_counter() - began)
            await asyncio.sleep(pause)
        await stream.done_writing()
        return times


class CountingProxy:
    """Passes connections on and counts what comes back on them.

    :ivar address: `host:port` where it listens.
    :ivar received: bytes that the other side has sent, all framing included.
    """

    def __init__(self, target: str) -> None:
        self.address = ""
        self.received = 0
        self._host, _, self._port = target.rpartition(":")
        self._pumps: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[CountingProxy]:
        """Listen on a free port until the block is left."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for pump in self._pumps:
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        for source, sink, counted in ((reader, back, False), (there, writer, True)):
            pump = asyncio.create_task(self._pump(source, sink, counted=counted))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, counted: bool) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(sink):
            while data := await source.read(1 << 18):
                if counted:
                    self.received += len(data)
                sink.write(data)
                await sink.drain()
