"""Many jobs at once on one cluster: HODEI_TEST_K8S_JOBS says how many."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import STDOUT, Client, ClientSettings
from hodei_faults.cluster import nothing_left, output
from hodei_server.app import Server

JOBS = int(os.environ.get("HODEI_TEST_K8S_JOBS", "12"))


@pytest.mark.timeout(400 + 5 * JOBS)
async def test_many_jobs_at_once_each_have_their_own_log_whole(
    make_settings: Callable[..., Any], api: Any, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """L03, W44: each has the output that is its own, whole, and ran once; nothing is left of their pods."""
    async with (
        Server(make_settings(DEFAULT_CPU_REQUEST="10m"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        began = time.monotonic()
        script = "echo begin $0; seq 1 2000; echo end $0"
        jobs = [await client.submit(["sh", "-c", script, str(number)]) for number in range(JOBS)]
        outcomes = [await client.wait(job) for job in jobs]
        took = time.monotonic() - began
        assert [outcome.state for outcome in outcomes] == [wire.JOB_STATE_SUCCEEDED] * JOBS, outcomes
        numbers = [str(number) for number in range(1, 2001)]
        for number, job in enumerate(jobs):
            assert (await output(client, job, STDOUT)).splitlines() == [f"begin {number}", *numbers, f"end {number}"]
            assert (await client.receipt(job)).complete
            assert len((await client.get(job)).attempts) == 1
        await nothing_left(api, namespace)
    with capsys.disabled():
        print(f"\n{JOBS} jobs at once: {took:.1f} s, {JOBS / took:.2f} pods/s")  # noqa: T201 - for `just soak-k8s`
