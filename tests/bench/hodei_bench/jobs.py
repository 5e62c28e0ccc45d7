"""Short jobs: how many in a second, and how long one takes."""

from __future__ import annotations

import asyncio
import contextlib
import time

from hodei.v1 import job_pb2
from hodei.v1 import types_pb2 as wire
from hodei_bench.harness import Result, Setup, bench, percentile
from hodei_bench.peer import fork_exec_rate, fork_exec_times, unary_times
from hodei_bench.running import RunningServer, processor_time
from hodei_client import STDOUT, Chunk, Client

#: Submissions under way at once.
AT_ONCE = 64
ECHO = ("/bin/echo", "hi")


async def warm_up(client: Client, gate_folder: str, workers: int) -> None:
    """Have so many workers started, and idle afterwards; each runs a job that waits for all."""
    script = 'touch "$0/$1"; until [ "$(ls "$0" | wc -l)" -ge "$2" ]; do sleep 0.05; done'
    ids = [
        await client.submit(["sh", "-c", script, gate_folder, str(number), str(workers)]) for number in range(workers)
    ]
    await asyncio.gather(*(client.wait(job_id) for job_id in ids))


async def submit_all(client: Client, count: int) -> list[str]:
    """Submit jobs as fast as one client can; return their ids in no order."""
    ids: list[str] = []
    numbers = iter(range(count))

    async def submit_some() -> None:
        for _ in numbers:
            job_id = await client.submit(ECHO)
            ids.append(job_id)

    await asyncio.gather(*(submit_some() for _ in range(AT_ONCE)))
    return ids


async def output_of(client: Client, job_id: str) -> bytes:
    """Return a job's standard output, followed to its end."""
    data = b""
    async for event in client.logs(job_id):
        if isinstance(event, Chunk) and event.stream == STDOUT:
            data += event.data
    return data


async def burst(client: Client, count: int) -> tuple[float, float]:
    """Submit jobs and wait until the last has ended, asking for nothing meanwhile but the end of one.

    :return: seconds from the first submission to the last end, and to the last submission, by the server's clock.
    """
    ids = set(await submit_all(client, count))
    # Jobs start in the order of their submission: when the newest has ended, nearly all have.
    newest = await anext(aiter(client.list(job_pb2.ListJobsRequest(page_size=1))))
    await client.wait(newest.job_id)
    found: list[wire.Job] = []
    async for job in client.list(job_pb2.ListJobsRequest(page_size=1000)):
        if job.job_id in ids:
            if not job.HasField("end_time"):
                await client.wait(job.job_id)
                found.append(await client.get(job.job_id))
            else:
                found.append(job)
        if len(found) == count:
            break
    failed = [job.job_id for job in found if job.state != wire.JOB_STATE_SUCCEEDED]
    if failed or len(found) != count:
        raise RuntimeError(f"{len(found)} of {count} jobs are there, {len(failed)} failed")
    for job in found[:: max(1, count // 20)]:
        if await output_of(client, job.job_id) != b"hi\n":
            raise RuntimeError(f"job {job.job_id} has lost its output")
    began = min(job.submit_time.ToNanoseconds() for job in found)
    submitted = max(job.submit_time.ToNanoseconds() for job in found)
    ended = max(job.end_time.ToNanoseconds() for job in found)
    return (ended - began) / 1e9, (submitted - began) / 1e9


@bench("jobs", durable=True)
async def jobs(setup: Setup) -> list[Result]:
    """`echo hi` on warm workers, submitted by one client as fast as it can."""
    count, workers = (100, 4) if setup.short else (3000, 8)
    gate = setup.folder / "gate"
    gate.mkdir()
    async with (
        setup.server(worker_max_jobs="0", HODEI_PROVIDER_PROCESS_MAX_WORKERS=str(workers)) as server,
        server.client() as client,
    ):
        await warm_up(client, str(gate), workers)
        await burst(client, count // 10)
        before = processor_time(server)
        async with setup.profiled("jobs", server, "job", 3 * count):
            runs = sorted([await burst(client, count) for _ in range(3)])
        spent = {who: (after - before[who]) / (3 * count) * 1e3 for who, after in processor_time(server).items()}
    whole, submitting = runs[1]
    limit = await fork_exec_rate(1000)
    return [
        Result(
            "jobs.finished",
            count / whole,
            "jobs/s",
            more_is_better=True,
            peer=limit,
            peer_name="fork and exec alone",
            aim=500,
            note=f"{count:,} jobs, {workers} warm workers",
        ),
        Result("jobs.submitted", count / submitting, "jobs/s", more_is_better=True, note="while they run"),
        *(
            Result(f"jobs.processor-{who}", took, "ms", note="processor time for each job")
            for who, took in spent.items()
        ),
    ]


async def one_job(client: Client) -> float:
    """Submit, follow and wait for one job; return milliseconds until it has ended and its output is in hand."""
    began = time.perf_counter()
    job_id = await client.submit(ECHO)
    output, outcome = await asyncio.gather(output_of(client, job_id), client.wait(job_id))
    took = time.perf_counter() - began
    if output != b"hi\n" or outcome.state != wire.JOB_STATE_SUCCEEDED:
        raise RuntimeError(f"job {job_id} ended as {outcome} with {output!r}")
    return took * 1e3


async def latencies(setup: Setup, server: RunningServer, count: int, profile: str = "") -> list[float]:
    """Run jobs one after the other; return milliseconds for each. The first is for warming up.

    :param profile: its name, where one may be wanted.
    """
    async with server.client() as client:
        await one_job(client)
        async with setup.profiled(profile, server, "job", count) if profile else contextlib.nullcontext():
            return [await one_job(client) for _ in range(count)]


async def ready_times(server: RunningServer, count: int, ready: int) -> list[float]:
    """Run jobs one after the other, each on a worker of a full pool.

    :param ready: workers that wait in it.
    :return: milliseconds by the server's clock, from each decision until it was written down that the process runs.
    """
    found = []
    async with server.client() as client:
        for _ in range(count):
            workers: dict[str, bool] = {}
            while sum(workers.values()) < ready or len(workers) > ready:
                await asyncio.sleep(0.01)
                workers = {each.worker_id: each.warm and each.connected async for each in client.workers()}
            job_id = await client.submit(ECHO)
            await client.wait(job_id)
            (attempt,) = (await client.get(job_id)).attempts
            if attempt.worker_id not in workers:
                raise RuntimeError(f"job {job_id} has run on a worker that did not wait for it")
            found.append((attempt.start_time.ToNanoseconds() - attempt.create_time.ToNanoseconds()) / 1e6)
    return found


@bench("latency", durable=True)
async def latency(setup: Setup) -> list[Result]:
    """One job at a time on an idle server: from submission to its end with its output in hand."""
    many, few = (50, 5) if setup.short else (300, 30)
    async with setup.server(worker_max_jobs="0") as server:
        warm = await latencies(setup, server, many, "latency")
    async with setup.server(worker_max_jobs="1") as server:
        fresh = await latencies(setup, server, few)
    async with setup.server(worker_max_jobs="1", HODEI_PROVIDER_PROCESS_POOL_MIN_READY="3") as server:
        pooled = await latencies(setup, server, few)
        ready = await ready_times(server, few, 3)
    forked = [seconds * 1e3 for seconds in await asyncio.to_thread(fork_exec_times, many)]
    called = [seconds * 1e3 for seconds in await unary_times(many)]
    fork, call = percentile(forked, 50), percentile(called, 50)
    return [
        Result(
            "latency.warm-p50", percentile(warm, 50), "ms", peer=fork + call, peer_name="fork and exec, a call", aim=15
        ),
        Result("latency.warm-p99", percentile(warm, 99), "ms", peer=fork + call, peer_name="medians of the same"),
        Result(
            "latency.fresh-p50",
            percentile(fresh, 50),
            "ms",
            peer=fork + call,
            peer_name="fork and exec, a call",
            aim=300,
            note="a new worker process for each job",
        ),
        Result(
            "latency.pooled-p50",
            percentile(pooled, 50),
            "ms",
            peer=fork + call,
            peer_name="fork and exec, a call",
            note="a new worker process for each job, from a pool of 3 that is filled meanwhile",
        ),
        Result(
            "latency.ready-to-running-p50",
            percentile(ready, 50),
            "ms",
            note="by the server's clock, from the decision to RUNNING on a worker that waits in a full pool of 3",
        ),
        Result("latency.fork-exec-p50", fork, "ms", note="a limit"),
        Result("latency.unary-call-p50", call, "ms", note="a limit"),
    ]
