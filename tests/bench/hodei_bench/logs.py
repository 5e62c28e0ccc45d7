"""A job that prints a million lines: what its log costs between the pipe and a live follower."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

from hodei.v1 import types_pb2 as wire
from hodei_bench.databases import all_sealed
from hodei_bench.harness import Result, Setup, bench
from hodei_bench.peer import CountingProxy, pipe, two_hops
from hodei_bench.running import HODEI, RunningServer, processor_time
from hodei_client import STDOUT, AttemptEnd, Chunk, Client

LINE_BYTES = 80
#: Of a block as the worker sends it, at full speed.
BLOCK_BYTES = 512 << 10
#: What profiles of logs are told for, and how many lines they see: enough for a few thousand samples.
PROFILED, PROFILED_LINES = "million lines", 16_000_000


def write_lines(file: Path, lines: int) -> Path:
    """Write numbered lines of 80 bytes."""
    with file.open("w") as out:
        for first in range(0, lines, 10_000):
            out.write("".join(f"{n:>78} \n" for n in range(first, min(first + 10_000, lines))))
    assert file.stat().st_size == lines * LINE_BYTES
    return file


async def running_at(client: Client, job_id: str) -> float:
    """Wait for a job's process; return when the server says it ran (seconds since 1970)."""
    async for response in client.watch(job_id):
        if response.event.state == wire.JOB_STATE_RUNNING:
            return response.event.time.ToNanoseconds() / 1e9
    raise RuntimeError(f"job {job_id} never ran")


async def follow_whole(
    client: Client, job_id: str, size: int, *, compress: bool = False, whole: asyncio.Event | None = None
) -> None:
    """Follow a log to its end, as a program would, checksums verified.

    :param size: bytes of its standard output.
    :param whole: set when they have come, which is before the end.
    :raise RuntimeError: it is not whole, or the job failed.
    """
    received = 0
    async for event in client.logs(job_id, compress=compress):
        if isinstance(event, Chunk) and event.stream == STDOUT:
            received += len(event.data)
            if received == size and whole is not None:
                whole.set()
        elif isinstance(event, AttemptEnd):
            outcome = event.outcome
            if not event.receipt.complete or outcome is None or outcome.state != wire.JOB_STATE_SUCCEEDED:
                raise RuntimeError(f"job {job_id} has not gone well: {event}")
    if received != size:
        raise RuntimeError(f"{received} bytes came of {size}")


async def follow_file(server: RunningServer, file: Path, *, compress: bool = False) -> tuple[float, float]:
    """Have a job print a file to a live follower; return seconds from submission and from RUNNING on.

    It returns when the log is compressed, too, so that what comes next has the machine for itself.
    """
    async with server.client() as client:
        began = time.time()
        job_id = await client.submit(["cat", str(file)])
        running = asyncio.create_task(running_at(client, job_id))
        await follow_whole(client, job_id, file.stat().st_size, compress=compress)
        ended = time.time()
        took = ended - began, ended - await running
    await all_sealed(server)
    return took


def sizes(setup: Setup) -> tuple[int, int]:
    """Return how many lines, and how often."""
    return (200_000, 3) if setup.short else (1_000_000, 3)


@bench("log", durable=True)
async def log(setup: Setup) -> list[Result]:
    """The log's way from the job's pipe to a follower that waits for it; runs and limits take turns."""
    lines, times = sizes(setup)
    file = write_lines(setup.folder / "lines", lines)
    runs, small, large, bare = [], [], [], []
    spent: dict[str, float] = {}
    async with setup.server(worker_max_jobs="0") as server:
        await follow_file(server, write_lines(setup.folder / "few", 10))
        if setup.profiler is not None:
            async with setup.profiled("log", server, PROFILED, PROFILED_LINES / 1e6):
                for _ in range(PROFILED_LINES // lines):
                    await follow_file(server, file)
        for _ in range(times):
            before = processor_time(server)
            runs.append(await follow_file(server, file))
            for who, after in processor_time(server).items():
                spent[who] = spent.get(who, 0.0) + (after - before[who]) / times
            small.append(await two_hops(lines * LINE_BYTES))
            large.append(await two_hops(lines * LINE_BYTES, BLOCK_BYTES))
            bare.append(await pipe(file))
    limit = statistics.median(small)
    whole, streaming = (statistics.median(column) for column in zip(*runs, strict=True))
    note = f"{lines:,} lines of {LINE_BYTES} bytes"
    hops, in_blocks = "two bare gRPC hops, 64 KiB a message", "the same hops, as large as a worker's blocks"
    per_second = {name: lines / statistics.median(seconds) for name, seconds in (("large", large), ("pipe", bare))}
    rate = lines / streaming
    return [
        Result("log.running-to-end", streaming, "s", peer=limit, peer_name=hops, aim=0.5, aim_of="ratio", note=note),
        Result("log.submit-to-end", whole, "s", peer=limit, peer_name=hops, note="a warm worker"),
        Result(
            "log.lines",
            rate,
            "lines/s",
            more_is_better=True,
            peer=per_second["pipe"],
            peer_name="a pipe",
            aim=1_000_000,
            note=note,
        ),
        Result(
            "log.lines-in-blocks", rate, "lines/s", more_is_better=True, peer=per_second["large"], peer_name=in_blocks
        ),
        *(
            Result(f"log.processor-{who}", took, "s", note="processor time, all lines, compressing them included")
            for who, took in spent.items()
        ),
    ]


@bench("log-cli", durable=True)
async def log_cli(setup: Setup) -> list[Result]:
    """The same through `hodei run` into a file, the command's own start included."""
    lines, times = sizes(setup)
    file = write_lines(setup.folder / "lines", lines)

    async def once(server: RunningServer, *command: str) -> float:
        began = time.perf_counter()
        with (setup.folder / "out").open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                HODEI, "--server", server.address, "run", "-q", "--", *command, stdout=out
            )
            code = await process.wait()
        took = time.perf_counter() - began
        if code:
            raise RuntimeError(f"`hodei run` ended with {code}")
        await all_sealed(server)
        return took

    whole, nothing, client = [], [], []
    async with setup.server(worker_max_jobs="0") as server:
        await follow_file(server, write_lines(setup.folder / "few", 10))
        for _ in range(times):
            client.append((await follow_file(server, file))[0])
            whole.append(await once(server, "cat", str(file)))
            if (setup.folder / "out").stat().st_size != file.stat().st_size:
                raise RuntimeError("`hodei run` wrote another file than the job's")
            nothing.append(await once(server, "true"))
    took, peer = statistics.median(whole), statistics.median(client)
    note, of = f"{lines:,} lines of {LINE_BYTES} bytes", "the client of bench log, from submission"
    start = statistics.median(nothing)
    return [
        Result("log-cli.run-to-file", took, "s", peer=peer, peer_name=of, aim=1 / 1.3, aim_of="ratio", note=note),
        Result(
            "log-cli.beyond-its-start",
            took - start,
            "s",
            peer=peer,
            peer_name=of,
            note="without what `hodei run -- true` takes",
        ),
        Result("log-cli.its-start", start, "s", note="`hodei run -- true`, to its end"),
    ]


async def bytes_on_the_wire(server: RunningServer, file: Path, *, compress: bool) -> int:
    """Return what the server sends a follower of a file's lines, in bytes, all framing included."""
    async with CountingProxy(server.address).listening() as proxy:
        await follow_file(dataclasses.replace(server, address=proxy.address), file, compress=compress)
        return proxy.received


@bench("compression")
async def compression(setup: Setup) -> list[Result]:
    """The same log with gzip on the wire, as a client may ask; bytes counted by a proxy, in a run of their own."""
    lines, times = sizes(setup)
    file = write_lines(setup.folder / "lines", lines)
    took: dict[bool, float] = {}
    size: dict[bool, int] = {}
    async with setup.server(worker_max_jobs="0") as server:
        await follow_file(server, write_lines(setup.folder / "few", 10))
        if setup.profiler is not None:
            async with setup.profiled("compression", server, PROFILED, PROFILED_LINES / 4e6):
                for _ in range(PROFILED_LINES // 4 // lines):
                    await follow_file(server, file, compress=True)
        for compress in (False, True):
            runs = [(await follow_file(server, file, compress=compress))[1] for _ in range(times)]
            took[compress] = statistics.median(runs)
            size[compress] = await bytes_on_the_wire(server, file, compress=compress)
    note, without = f"{lines:,} lines of {LINE_BYTES} bytes, gzip", "the same without"
    rates = {compress: lines / seconds for compress, seconds in took.items()}
    return [
        Result(
            "compression.lines",
            rates[True],
            "lines/s",
            more_is_better=True,
            peer=rates[False],
            peer_name=without,
            note=note,
        ),
        Result("compression.bytes", size[True], "bytes", peer=size[False], peer_name=without, note="on the wire"),
    ]


async def at_once(
    client: Client,
    folder: Path,
    file: Path,
    jobs: int,
    around: contextlib.AbstractAsyncContextManager[None] | None = None,
) -> float:
    """Have jobs print a file at once, each to a follower; return seconds until the last byte has come.

    :param folder: for two named pipes: one holds the jobs back until all run, the other until all has come.
    :param around: entered for what is measured.
    """
    gates = folder / "begin", folder / "end"
    for gate in gates:
        os.mkfifo(gate)
    ids = [await client.submit(["cat", str(gates[0]), str(file), str(gates[1])]) for _ in range(jobs)]
    await asyncio.gather(*(running_at(client, job_id) for job_id in ids))
    came = [asyncio.Event() for _ in ids]
    follows = [
        asyncio.create_task(follow_whole(client, job_id, file.stat().st_size, whole=whole))
        for job_id, whole in zip(ids, came, strict=True)
    ]
    # Jobs that run have not all come to the gate yet, and followers not all to their end of the log.
    await asyncio.sleep(1.0)
    async with around or contextlib.nullcontext():
        began = time.perf_counter()
        async with asyncio.timeout(120), open_often(gates[0]):
            await asyncio.gather(*(whole.wait() for whole in came))
        took = time.perf_counter() - began
    async with asyncio.timeout(120), open_often(gates[1]):
        await asyncio.gather(*follows)
    for gate in gates:
        gate.unlink()
    return took


@contextlib.asynccontextmanager
async def open_often(gate: Path) -> AsyncIterator[None]:
    """Let those go who read a named pipe, and who come late."""

    async def open_and_close() -> None:
        while True:
            with contextlib.suppress(OSError):  # nobody is there
                os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
            await asyncio.sleep(0.05)

    opening = asyncio.create_task(open_and_close())
    try:
        yield
    finally:
        opening.cancel()


@bench("many", durable=True)
async def many(setup: Setup) -> list[Result]:
    """A hundred jobs at once, each followed, beside one job that prints as much."""
    jobs, lines, times = (20, 2000, 1) if setup.short else (100, 10_000, 3)
    whole = write_lines(setup.folder / "whole", jobs * lines)
    part = write_lines(setup.folder / "part", lines)
    one, together = [], []
    async with (
        setup.server(worker_max_jobs="0", HODEI_PROVIDER_PROCESS_MAX_WORKERS=str(jobs)) as server,
        server.client() as client,
    ):
        await at_once(client, setup.folder, part, jobs)  # starts the workers
        for _ in range(times if setup.profiler is None else 4 * times):
            around = setup.profiled("many", server, PROFILED, jobs * lines / 1e6)
            together.append(await at_once(client, setup.folder, part, jobs, around))
            around = setup.profiled("many-one", server, PROFILED, jobs * lines / 1e6)
            one.append(await at_once(client, setup.folder, whole, 1, around))
    lines_in_all = jobs * lines
    return [
        Result(
            "many.lines",
            lines_in_all / statistics.median(together),
            "lines/s",
            more_is_better=True,
            peer=lines_in_all / statistics.median(one),
            peer_name="one job with all lines",
            aim=0.8,
            aim_of="ratio",
            note=f"{jobs} jobs on warm workers, {lines:,} lines each, each followed; to the last byte, not the end",
        )
    ]
