"""Jobs in containers, beside Docker's own command and containers that are started through the engine's API."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiodocker

from hodei_bench.commands import first_line, whole
from hodei_bench.echoes import ECHO, IMPORTS, burst, ended, one_job, whole_logs
from hodei_bench.harness import Result, Setup, bench, repeat
from hodei_client import Client

IMAGE = os.environ.get("HODEI_WORKER_IMAGE") or "hodei-jobs-worker:latest"
#: Containers under way at once, Hodei's and the peers' alike.
AT_ONCE = 8


async def containers(command: tuple[str, ...], count: int) -> float:
    """Make, start, await and remove containers through the engine's API; return how many a second."""
    config: dict[str, Any] = {"Image": IMAGE, "Entrypoint": list(command), "Healthcheck": {"Test": ["NONE"]}}
    async with aiodocker.Docker() as engine:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with slots:
                container = await engine.containers.create(config)
                await container.start()
                ended = await container.wait()
                await container.delete(force=True)
                if ended["StatusCode"]:
                    raise RuntimeError(f"a container has ended with {json.dumps(ended)}")

        await one()
        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(count)))
        return count / (time.perf_counter() - began)


async def unusable() -> str:
    """Return why nothing can be measured here; empty when something can."""
    try:
        async with aiodocker.Docker() as engine:
            await engine.images.inspect(IMAGE)
    except (aiodocker.DockerError, AssertionError, OSError) as error:
        return f"no engine with the image {IMAGE}: {error}"
    return ""


async def clean(data_dir: Path) -> None:
    """Remove what a server has left on the engine: warm workers go on without it."""
    label = f"hodei.installation={(data_dir / 'installation').read_text().strip()}"
    async with aiodocker.Docker() as engine:
        filters = json.dumps({"label": [label]})
        for container in await engine.containers.list(all="true", filters=filters):
            await container.delete(force=True, v=True)
        volumes: Any = engine.volumes
        found = await volumes.list(filters={"label": [label]})
        for each in found.get("Volumes") or []:
            await (await volumes.get(each["Name"])).delete()


def profiled_bursts(client: Client) -> list[tuple[str, Callable[[int], Awaitable[float]]]]:
    """Return what is profiled: Hodei's containers and the peer's, each taking how many are to run."""
    return [("docker", partial(burst, client)), ("docker-peer", partial(containers, IMPORTS))]


@bench("docker")
async def docker(setup: Setup) -> list[Result]:
    """Jobs in containers: how long one takes, and how many in a second."""
    if (missing := await unusable()) and not os.environ.get("CI"):
        sys.stderr.write(f"docker: left out: {missing}\n")
        return []
    times, count, many = (3, 8, 2 * AT_ONCE) if setup.short else (11, 40, 100)
    settings = {"providers": "docker", "worker_image": IMAGE, "HODEI_DOCKER_MAX_WORKERS": str(AT_ONCE)}
    plain = ("docker", "run", "--rm", "--entrypoint", ECHO[0], IMAGE, *ECHO[1:])
    async with setup.server(**settings) as server, server.client() as client:
        await one_job(client)
        # By turns: what else the machine does falls on both alike.
        lines, ends, plain_lines, plain_ends = [], [], [], []
        for _ in range(times):
            line, end = await one_job(client)
            lines.append(line)
            ends.append(end)
            plain_lines.append(await first_line(*plain))
            plain_ends.append(await whole(*plain))
        rates, imports, bare = [], [], []
        for _ in range(1 if setup.short else 3):
            rates.append(await burst(client, count))
            imports.append(await containers(IMPORTS, count))
            bare.append(await containers(("/bin/true",), count))
        if setup.profiler is not None:
            for name, run in profiled_bursts(client):
                async with setup.profiled(name, server, "container", count):
                    await run(count)
        data_dir = server.data_dir
    await clean(data_dir)
    async with setup.server(**settings | {"HODEI_DOCKER_MAX_WORKERS": str(many)}) as server, server.client() as client:
        at_once = await whole_logs(client, many)
        data_dir = server.data_dir
    await clean(data_dir)
    async with setup.server(**settings, worker_max_jobs="0") as server, server.client() as client:
        for _ in range(3):
            await one_job(client)
        warm = await repeat(30, lambda: ended(client))
        data_dir = server.data_dir
    await clean(data_dir)
    line, end = statistics.median(lines), statistics.median(ends)
    plain_line, plain_end = statistics.median(plain_lines), statistics.median(plain_ends)
    peer = "docker run of the same image"
    rate, importing = statistics.median(rates), statistics.median(imports)
    note = f"{many} jobs at once, each log compared line by line"
    return [
        Result("docker.first-line", line, "ms", peer=plain_line, peer_name=peer, aim=plain_line + 250),
        Result("docker.finished", end, "ms", peer=plain_end, peer_name=peer, aim=plain_end + 250),
        Result("docker.warm", warm, "ms", aim=20, note="a container that waits, submit to finished"),
        Result(
            "docker.rate",
            rate,
            "jobs/s",
            more_is_better=True,
            peer=importing,
            peer_name="containers by the API that import grpc",
            aim=0.9,
            aim_of="ratio",
            note=f"{count} jobs, {AT_ONCE} containers at once",
        ),
        Result("docker.bare-rate", statistics.median(bare), "jobs/s", more_is_better=True, note="a limit: /bin/true"),
        Result("docker.at-once", at_once, "jobs/s", more_is_better=True, note=note),
    ]
