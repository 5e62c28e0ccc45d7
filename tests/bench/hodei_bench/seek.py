"""Reading a little of a large log that was sealed: time and bytes must not grow with the log."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from pathlib import Path

from hodei_bench.commands import whole
from hodei_bench.databases import all_sealed
from hodei_bench.harness import Result, Setup, bench
from hodei_bench.logs import LINE_BYTES, write_lines
from hodei_bench.running import RunningServer
from hodei_client import STDOUT, Chunk, Client, LogPlace
from hodei_logstore.sealed import FRAME_BYTES

#: Lines that are read.
WANTED = 100


@dataclasses.dataclass(slots=True)
class Sealed:
    """A job with a sealed log, and what reading it took.

    :param chunks: how many its log has.
    :param middle: milliseconds of each read from there.
    :param middle_read: bytes the server read for each of them.
    :param tail: milliseconds of each read of the last lines.
    :param tail_read: bytes the server read for each of them.
    """

    job_id: str
    chunks: int
    middle: list[float] = dataclasses.field(default_factory=list)
    middle_read: list[float] = dataclasses.field(default_factory=list)
    tail: list[float] = dataclasses.field(default_factory=list)
    tail_read: list[float] = dataclasses.field(default_factory=list)


async def make(server: RunningServer, client: Client, file: Path) -> Sealed:
    """Have a job print a file; wait until its log is sealed."""
    job_id = await client.submit(["cat", str(file)])
    await client.wait(job_id)
    receipt = await client.receipt(job_id)
    if receipt.bytes != file.stat().st_size or not receipt.complete or receipt.cuts:
        raise RuntimeError(f"the log is not whole: {receipt}")
    await all_sealed(server)
    return Sealed(job_id, receipt.chunks)


async def read_lines(client: Client, job_id: str, place: LogPlace) -> float:
    """Read from a place on until a hundred lines are there; return milliseconds.

    :raise RuntimeError: the log has ended before.
    """
    began = time.perf_counter()
    data = b""
    async with contextlib.aclosing(client.logs(job_id, place=place, follow=False)) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, Chunk) and event.stream == STDOUT:
                data += event.data
                if data.count(b"\n") >= WANTED and place.tail is None:
                    break
    took = (time.perf_counter() - began) * 1e3
    lines = data.count(b"\n")
    if lines < WANTED or (place.tail is not None and lines != WANTED):
        raise RuntimeError(f"{lines} lines came")
    return took


@bench("seek")
async def seek(setup: Setup) -> list[Result]:
    """The middle and the last lines of a log of 1 GiB and of one a sixteenth of its size."""
    large = (64 << 20 if setup.short else 1 << 30) // LINE_BYTES
    files = [write_lines(setup.folder / name, lines) for name, lines in (("large", large), ("small", large // 16))]
    async with setup.server(worker_max_jobs="0", log_budget="4Gi") as server, server.client() as client:
        logs = [await make(server, client, file) for file in files]
        for _ in range(20):
            for log in logs:
                for place, took, read in (
                    (LogPlace(after_sequence=log.chunks // 2), log.middle, log.middle_read),
                    (LogPlace(tail=WANTED), log.tail, log.tail_read),
                ):
                    before = server.read_bytes()
                    took.append(await read_lines(client, log.job_id, place))
                    read.append(server.read_bytes() - before)
    bare = statistics.median([await whole("tail", "-n", str(WANTED), str(files[0])) for _ in range(20)])
    big, small = logs
    size = f"{large * LINE_BYTES >> 20} MiB"

    def beside_small(name: str, unit: str, figures: list[float], small_figures: list[float]) -> Result:
        figure, peer = statistics.median(figures), statistics.median(small_figures)
        result = Result(name, figure, unit, peer=peer, peer_name="a log of a sixteenth of the size", note=size)
        if unit == "bytes":
            # Frames differ in what is left of them when they are compressed: what counts is that one is enough.
            return dataclasses.replace(result, aim=FRAME_BYTES, note=f"{size}; aim: one frame, as it was printed")
        return dataclasses.replace(result, aim=1 / 1.3, aim_of="ratio")

    tail = statistics.median(big.tail)
    return [
        beside_small("seek.middle", "ms", big.middle, small.middle),
        beside_small("seek.middle-read", "bytes", big.middle_read, small.middle_read),
        beside_small("seek.tail", "ms", big.tail, small.tail),
        beside_small("seek.tail-read", "bytes", big.tail_read, small.tail_read),
        Result("seek.tail-beside-tail", tail, "ms", peer=bare, peer_name="`tail` on the plain file, with its start"),
    ]
