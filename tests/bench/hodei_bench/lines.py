"""One line on a quiet system: from the job's write to the follower's hand."""

from __future__ import annotations

import sys
import time

from hodei_bench.harness import Result, Setup, bench, percentile
from hodei_bench.peer import echo_times
from hodei_client import STDOUT, AttemptEnd, Chunk, Client

#: Seconds between two lines.
PAUSE = 0.02
#: Prints CLOCK_MONOTONIC, in nanoseconds, which is the same in every process of the machine.
JOB = """
import sys, time
for _ in range(int(sys.argv[1])):
    print(time.monotonic_ns(), flush=True)
    time.sleep(float(sys.argv[2]))
"""


async def come(client: Client, job_id: str) -> list[float]:
    """Follow the job; return how old each line was when it came, in milliseconds."""
    took: list[float] = []
    rest = b""
    async for event in client.logs(job_id):
        now = time.monotonic_ns()
        if isinstance(event, Chunk) and event.stream == STDOUT:
            *lines, rest = (rest + event.data).split(b"\n")
            took += [(now - int(text)) / 1e6 for text in lines]
        elif isinstance(event, AttemptEnd) and not event.receipt.complete:
            raise RuntimeError(f"the log is not whole: {event}")
    return took


@bench("line", durable=True)
async def line(setup: Setup) -> list[Result]:
    """A job prints the time every 20 ms; a live follower compares it with its own."""
    count = 100 if setup.short else 500
    async with setup.server(worker_max_jobs="0") as server, server.client() as client:
        await client.wait(await client.submit(["/bin/true"]))
        async with setup.profiled("line", server, "line", count):
            took = await come(client, await client.submit([sys.executable, "-c", JOB, str(count), str(PAUSE)]))
    if len(took) != count:
        raise RuntimeError(f"{len(took)} lines came of {count}")
    limits = [seconds * 1e3 for seconds in await echo_times(count, PAUSE)]
    return [
        Result(
            f"line.p{percent}",
            percentile(took, percent),
            "ms",
            peer=percentile(limits, percent),
            peer_name="a round trip on a bare gRPC stream",
            aim=aim,
            note=f"{count} lines, one each {PAUSE * 1e3:.0f} ms",
        )
        for percent, aim in ((50, 5.0), (99, 20.0))
    ]
