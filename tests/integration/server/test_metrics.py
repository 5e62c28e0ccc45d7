"""Metrics: each family moves when what it counts happens, and Prometheus' own parser takes the text."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hodei.v1 import provider_pb2
from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_providers.metrics import Distribution, Metric
from hodei_providers.process import ProcessProvider
from hodei_server.app import Server
from hodei_server.rpc.listener import ListenerError
from hodei_server.settings import Settings, SettingsError

MakeSettings = Callable[..., Settings]
ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy" / "prometheus-rules.yaml"


def read(server: Server) -> str:
    """Return what a scrape gets."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


async def scrape(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample by its name and labels."""
    families = text_string_to_metric_families(await asyncio.to_thread(read, server))
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


async def figure(server: Server, name: str, **labels: str) -> float:
    """Return one sample; 0 where there is none yet."""
    return (await scrape(server)).get((f"hodei_{name}", frozenset(labels.items())), 0.0)


async def until(server: Server, name: str, value: float, **labels: str) -> None:
    """Wait for a sample to have a value."""
    async with asyncio.timeout(60):
        while await figure(server, name, **labels) != value:
            await asyncio.sleep(0.02)


@pytest.fixture
async def server(make_settings: MakeSettings) -> AsyncIterator[Server]:
    """Return a running server that is watched."""
    async with Server(make_settings(metrics_listen="127.0.0.1:0"), ephemeral=True) as running:
        yield running


async def test_a_job_moves_what_tells_of_jobs_workers_and_logs(server: Server, client: Client) -> None:
    """From its submission to its end, each family by exactly what happened."""
    before = await scrape(server)
    job = await client.submit(["sh", "-c", "echo hello; exit 3"])
    async for _ in client.logs(job):
        pass
    assert (await client.wait(job)).exit_code == 3
    after = await scrape(server)

    def moved(name: str, **labels: str) -> float:
        key = (f"hodei_{name}", frozenset(labels.items()))
        return after.get(key, 0.0) - before.get(key, 0.0)

    assert moved("job_moves_total", state="queued", cause="none") == 1
    assert moved("job_moves_total", state="failed", cause="exit_code") == 1
    assert moved("attempts_ended_total", provider="process", outcome="failed", cause="exit_code") == 1
    assert moved("queue_wait_seconds_count") == 1
    assert moved("worker_creation_seconds_count", provider="process") == 1
    assert moved("worker_start_seconds_count", provider="process") == 1
    assert moved("log_received_bytes_total") >= len("hello\n")
    assert moved("log_sent_bytes_total") == moved("log_received_bytes_total")
    assert moved("log_acknowledgement_seconds_count") >= 1
    assert moved("log_commit_seconds_count") >= 1
    assert moved("database_commit_seconds_count") >= 3


async def test_what_is_there_now_is_told(server: Server, client: Client) -> None:
    """Gauges: jobs by state, workers, logs, followers; and back to nothing."""
    job = await client.submit(["sh", "-c", "echo running; exec sleep 600"])
    follow: Any = aiter(client.logs(job))
    await anext(follow)
    await until(server, "jobs", 1, state="running")
    await until(server, "workers", 1, provider="process", state="busy")
    for name in ("workers_connected", "logs_open", "followers"):
        assert await figure(server, name) == 1
    assert await figure(server, "log_memory_bytes") > 0
    await follow.aclose()
    await client.cancel(job)
    await client.wait(job)
    await until(server, "followers", 0)
    await until(server, "logs_open", 0)
    await until(server, "log_memory_bytes", 0)
    await until(server, "jobs", 0, state="running")


async def test_a_queue_is_told_with_its_depth_and_its_age(server: Server, client: Client) -> None:
    """Of a provider that takes nothing; once it does, the queue is empty."""
    await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_DISABLED)
    assert await figure(server, "provider_enabled", provider="process") == 0
    job = await client.submit(["true"])
    assert await figure(server, "jobs", state="queued") == 1
    first = await figure(server, "queue_oldest_seconds")
    async with asyncio.timeout(60):
        while not await figure(server, "queue_oldest_seconds") > first:
            await asyncio.sleep(0.02)
    await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_ENABLED)
    assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
    assert await figure(server, "jobs", state="queued") == 0
    assert await figure(server, "queue_oldest_seconds") == 0


async def test_the_machine_and_the_providers_are_told_of(server: Server) -> None:
    """What needs no job: disk, clock, loop, process, health."""
    labels = {"provider": "process"}
    for name in ("provider_healthy", "provider_enabled"):
        assert await figure(server, name, **labels) == 1
    for name in ("provider_degraded", "provider_breaker_open", "pool_wanted"):
        assert await figure(server, name, **labels) == 0
    found = await scrape(server)
    assert ("hodei_provider_degraded", frozenset(labels.items())) in found
    assert 0 < await figure(server, "disk_free_bytes") < await figure(server, "disk_size_bytes")
    assert await figure(server, "process_resident_memory_bytes") > 1 << 20
    assert ("hodei_clock_moved_seconds", frozenset()) in found
    async with asyncio.timeout(60):
        while not await figure(server, "event_loop_lag_seconds_count"):
            await asyncio.sleep(0.05)
        while not await figure(server, "provider_check_seconds_count", **labels):
            await asyncio.sleep(0.05)


async def test_a_refused_worker_and_a_failed_launch_are_counted(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """W28: by what was refused, and by cause; the breaker that opens is seen, too."""
    monkeypatch.setenv("HODEI_PROVIDER_PROCESS_WORKER_COMMAND", str(tmp_path / "nothing"))
    async with (
        Server(make_settings(metrics_listen="127.0.0.1:0"), ephemeral=True) as server,
        Client(settings=ClientSettings(server.address)) as client,
    ):
        labels = {"provider": "process", "cause": "unschedulable"}
        before = await figure(server, "worker_launch_failures_total", **labels)
        await client.submit(["true"])
        async with asyncio.timeout(60):
            while await figure(server, "worker_launch_failures_total", **labels) == before:
                await asyncio.sleep(0.02)
        server.sessions.refused("register", "a test's")
        assert await figure(server, "worker_refusals_total", kind="register") == 1


async def test_a_provider_may_tell_more_of_itself(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters, gauges and histograms, each with the provider's name; those of one kind share a family."""
    took = Distribution(0.1, 1.0)
    for value in (0.05, 0.1, 0.5, 3.0):
        took.observe(value)
    told = [
        Metric("x_calls_total", "counter", "Calls.", ("verb",), {("get",): 3}),
        Metric("x_pods", "gauge", "Pods.", (), {(): 2}),
        Metric("x_call_seconds", "histogram", "Seconds.", (), {(): took}),
    ]
    monkeypatch.setattr(ProcessProvider, "metrics", lambda _self: told)
    assert await figure(server, "x_calls_total", provider="process", verb="get") == 3
    assert await figure(server, "x_pods", provider="process") == 2
    below = [await figure(server, "x_call_seconds_bucket", provider="process", le=le) for le in ("0.1", "1.0", "+Inf")]
    assert below == [2, 3, 4]
    assert await figure(server, "x_call_seconds_sum", provider="process") == pytest.approx(3.65)


async def test_prometheus_own_check_finds_nothing(server: Server, client: Client) -> None:
    """`promtool check metrics`: names, units, help; with a job's figures among them. And the example's rules."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert not os.environ.get("CI"), "promtool is missing: apt install prometheus"
        pytest.skip("promtool is not installed")
    await client.wait(await client.submit(["true"]))
    text = await asyncio.to_thread(read, server)
    check = [promtool, "check", "metrics"]
    checked = await asyncio.to_thread(subprocess.run, check, input=text.encode(), capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    check = [promtool, "check", "rules", str(RULES)]
    checked = await asyncio.to_thread(subprocess.run, check, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_family_is_in_the_docs_and_every_rule_asks_for_one() -> None:
    """docs/metrics.md has a row for each; the rules name no figure that there isn't."""
    rows = set(re.findall(r"^\| `(hodei_\w+)", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    asked = {re.sub(r"_bucket$", "", name) for name in re.findall(r"hodei_\w+", RULES.read_text())}
    assert asked <= rows


async def test_nothing_is_served_where_nobody_asked_for_it(make_settings: MakeSettings) -> None:
    """Off by default."""
    async with Server(make_settings(), ephemeral=True) as server:
        assert server.metrics_address.port == 0


async def test_an_address_that_cannot_be_is_refused_at_the_start(make_settings: MakeSettings) -> None:
    """By the variable's name: one that is taken, and one with TLS."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = make_settings(metrics_listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ListenerError, match="HODEI_METRICS_LISTEN"):
            async with Server(settings, ephemeral=True):
                raise AssertionError("it has started")
    with pytest.raises(SettingsError, match="HODEI_METRICS_LISTEN"):
        make_settings(metrics_listen="https://127.0.0.1:0")
