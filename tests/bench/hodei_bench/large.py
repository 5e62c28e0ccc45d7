"""What a person who opens a very large log waits for, and what is read of it meanwhile: while it grows, and from S3."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import statistics
import time
from collections.abc import Callable

from hodei_bench.archive import archive_all, write_log
from hodei_bench.bucket import is_missing, plain_bucket
from hodei_bench.databases import all_sealed
from hodei_bench.harness import Result, Setup, bench, shown
from hodei_bench.places import live, middle_of
from hodei_bench.running import HODEI, RunningServer, clean_environment
from hodei_bench.seek import WANTED
from hodei_client import LogPlace
from hodei_faults.s3_proxy import S3Proxy
from hodei_server.db.segments import SegmentState

SETTINGS = {"worker_max_jobs": "0", "log_budget": "64Gi"}
#: What is printed again and again.
PIECE_BYTES = 16 << 20
#: Seconds for which a person looks at the first page.
LOOKED_AT = 0.5


@dataclasses.dataclass(slots=True)
class Asked:
    """A log that is asked for, and what that took, by what was asked.

    :param moment: a little of its middle, by its time.
    :ivar took: milliseconds of each.
    :ivar read: bytes the server has read for each, where that was counted.
    """

    job_id: str
    moment: LogPlace
    took: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    read: dict[str, list[int]] = dataclasses.field(default_factory=dict)

    async def ask(self, server: RunningServer, *, count: Callable[[], int] | None = None, timed: bool = True) -> None:
        """Ask for the first line, the last lines and the moment, one after the other.

        :param count: tells how many bytes were read so far.
        """
        assert self.moment.since is not None
        assert self.moment.until is not None
        moment = ("--since", self.moment.since.isoformat(), "--until", self.moment.until.isoformat())
        for name, options in (("first-line", ()), ("tail", ("--tail", str(WANTED))), ("since", moment)):
            before = count() if count is not None else 0
            took = await print_log(server, self.job_id, options, first_line=name == "first-line")
            if timed:
                self.took.setdefault(name, []).append(took)
            if count is not None:
                self.read.setdefault(name, []).append(count() - before)


async def print_log(server: RunningServer, job_id: str, options: tuple[str, ...], *, first_line: bool) -> float:
    """Run `hodei logs` with its output in a pipe; return milliseconds until what is wanted has come.

    :param first_line: no more than that is wanted; the command is left waiting for a while, as `less` leaves it, and
        ended.
    """
    command = (HODEI, "--server", server.address, "logs", *options, job_id)
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=clean_environment()
    )
    assert process.stdout is not None
    found = await (process.stdout.readline() if first_line else process.stdout.read())
    took = (time.perf_counter() - began) * 1e3
    if first_line:
        await asyncio.sleep(LOOKED_AT)
        process.kill()
    await process.communicate()
    if b"\n" not in found or (process.returncode and not first_line):
        raise RuntimeError(f"{command} printed {found[-200:]!r} and ended with {process.returncode}")
    return took


def results_of(where: str, sizes: tuple[int, int], large: Asked, small: Asked) -> list[Result]:
    """Compare what a large log took with what a small one did.

    :param sizes: of both, in bytes.
    """
    names = {"first-line": "", "tail": f"--tail {WANTED} ", "since": "--since … --until … "}
    found = []
    for name, options in names.items():
        note = f"`hodei logs {options}JOB` of {shown(sizes[0], 'bytes')}, its own start included"
        small_log = f"a log of {shown(sizes[1], 'bytes')}"
        took, peer = statistics.median(large.took[name]), statistics.median(small.took[name])
        found.append(
            Result(
                f"large.{where}-{name}", took, "ms", peer=peer, peer_name=small_log, aim=0.8, aim_of="ratio", note=note
            )
        )
        read, little = statistics.median(large.read[name]), statistics.median(small.read[name])
        found.append(Result(f"large.{where}-{name}-read", read, "bytes", peer=little, peer_name=small_log, note=note))
    return found


@bench("large", named=True)
async def large(setup: Setup) -> list[Result]:
    """A log of 10 GiB, opened by `hodei logs` while its job runs, and when it is in S3; beside a small log, in turn."""
    size, rounds = (64 << 20, 2) if setup.short else (10 << 30, 7)
    small_size = min(size // 4, 64 << 20)
    piece = write_log(setup.folder / "piece", PIECE_BYTES)
    times, small_times = (max(1, each // piece.stat().st_size) for each in (size, small_size))
    sizes = times * piece.stat().st_size, small_times * piece.stat().st_size
    data = setup.folder / "data"
    async with setup.server(data, **SETTINGS) as server, server.client() as client:
        gates = [setup.folder / name for name in ("gate", "small-gate")]
        async with (
            live(client, piece, gates[0], times) as first,
            live(client, piece, gates[1], small_times) as second,
        ):
            await all_sealed(server, left=[SegmentState.CLOSED])
            jobs = [(job_id, await middle_of(client, job_id)) for job_id in (first, second)]
            logs = [Asked(*job) for job in jobs]
            for _ in range(rounds):
                for log in logs:
                    await log.ask(server, count=server.read_bytes)
            results = results_of("live", sizes, *logs)
        await all_sealed(server)
    if is_missing("large, of S3"):
        return results
    logs = [Asked(*job) for job in jobs]
    with plain_bucket() as bucket:
        await archive_all(data, bucket)
        settings = {**SETTINGS, **bucket.settings()}
        for _ in range(rounds):
            for log in logs:
                # It has read nothing of S3 yet, and comes to know no more than a log's rows and its place.
                async with setup.server(data, **settings) as server:
                    await log.ask(server)
        async with S3Proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
            for log in logs:
                async with setup.server(data, **settings, s3_endpoint=proxy.url) as server:
                    await log.ask(server, count=lambda: proxy.fetched, timed=False)
    return [*results, *results_of("archived", sizes, *logs)]
