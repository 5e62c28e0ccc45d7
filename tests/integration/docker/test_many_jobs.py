"""Many jobs at once on one engine: HODEI_TEST_DOCKER_JOBS says how many."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.logs import read
from hodei_server.app import Server
from hodei_server.settings import Settings

JOBS = int(os.environ.get("HODEI_TEST_DOCKER_JOBS", "20"))


@pytest.mark.timeout(200 + 5 * JOBS)
async def test_many_jobs_at_once_each_have_their_own_log_whole(
    make_settings: Callable[..., Settings],
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """L03, W44: none ends before all of them run; each has the output that is its own, whole, and ran once."""
    monkeypatch.setenv("HODEI_DOCKER_MAX_WORKERS", str(JOBS))
    meet = f"touch /mnt/shared/$0; while [ $(ls /mnt/shared | wc -l) -lt {JOBS} ]; do sleep 1; done"
    script = f"echo begin $0; {meet}; seq 1 2000; echo end $0"
    settings = make_settings()
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        began = time.monotonic()
        jobs = [await client.submit(["sh", "-c", script, str(number)]) for number in range(JOBS)]
        outcomes = [await client.wait(job) for job in jobs]
        took = time.monotonic() - began
        assert [outcome.state for outcome in outcomes] == [wire.JOB_STATE_SUCCEEDED] * JOBS, outcomes
        numbers = "".join(f"{number}\n" for number in range(1, 2001))
        for number, job in enumerate(jobs):
            assert await read(client, job) == f"begin {number}\n{numbers}end {number}\n".encode()
            assert (await client.receipt(job)).complete
            assert len((await client.get(job)).attempts) == 1
    assert len(list(shared.iterdir())) == JOBS
    with capsys.disabled():
        print(f"\n{JOBS} jobs at once: {took:.1f} s, {JOBS / took:.2f} containers/s")  # noqa: T201 - for `just soak-docker`
