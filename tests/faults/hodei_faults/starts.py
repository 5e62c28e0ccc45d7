"""How long starts have taken, by what a server has written down of its workers."""

from __future__ import annotations

import contextlib
import sqlite3
import statistics
from collections.abc import Iterable
from pathlib import Path

import pytest

from hodei.v1 import job_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import Client

#: So many starts make an estimate that is their mean; the ones after them move it.
MOST_OF_A_MEAN = 5


async def inputs(client: Client, image: str = "") -> dict[str, job_pb2.PlacementInputs]:
    """Return what strategies would read of each provider for a job."""
    plan = await client.plan(wire.JobSpec(argv=["true"], image=image))
    return {each.provider: each.inputs for each in plan.candidates}


async def estimates_agree(client: Client, data_dir: Path, images: Iterable[str] = ("",)) -> dict[tuple[str, str], int]:
    """See that what is expected of a start is the mean of what was written down of workers, by provider and image.

    And that their history says the same: a worker registers, says hello, and starts its job's process. None may be
    starting, and no more than `MOST_OF_A_MEAN` may have started of each kind.

    :return: how many starts there were of each.
    """
    starts: dict[tuple[str, str], list[float]] = {}
    took: dict[str, float] = {}
    with contextlib.closing(sqlite3.connect(f"file:{data_dir / 'hodei.db'}?mode=ro", uri=True)) as database:
        for worker_id, provider, image, micros in database.execute(
            "SELECT worker_id, provider, image, hello_at - created_at FROM workers WHERE hello_at IS NOT NULL"
        ):
            took[worker_id] = micros / 1e6
            starts.setdefault((provider, image), []).append(took[worker_id])
    for image in images:
        for provider, read in (await inputs(client, image)).items():
            of_this = starts.get((provider, image), [])
            assert read.start_samples == len(of_this) <= MOST_OF_A_MEAN
            if of_this:
                assert read.start_seconds == pytest.approx(statistics.mean(of_this), rel=1e-6)
    async for worker in client.workers(include_gone=True):
        if worker.worker_id in took:
            registered = (worker.register_time.ToNanoseconds() - worker.create_time.ToNanoseconds()) / 1e9
            assert 0 < registered <= took[worker.worker_id]
    async for job in client.list():
        for attempt in (await client.get(job.job_id)).attempts:
            started = (attempt.start_time.ToNanoseconds() - attempt.create_time.ToNanoseconds()) / 1e9
            assert took[attempt.worker_id] <= started
    return {key: len(each) for key, each in starts.items()}
