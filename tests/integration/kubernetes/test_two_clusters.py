"""Several clusters at once are several providers: two contexts of one cluster stand in for two clusters."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_faults.cluster import nothing_left
from hodei_server.app import Server


async def test_jobs_go_to_the_cluster_that_they_name_and_both_are_seen_to(
    make_settings: Callable[..., Any], api: Any, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W42: each with its own file, context and namespace; neither takes the other's pods for its own, or for strays."""
    admin = yaml.safe_load(Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config").read_text())
    spaces = {"east": f"{namespace}-east", "west": f"{namespace}-west"}
    for name, space in spaces.items():
        (current,) = [each for each in admin["contexts"] if each["name"] == admin["current-context"]]
        context = {"name": name, "context": current["context"]}
        file = tmp_path / f"{name}.kubeconfig"
        file.write_text(json.dumps(admin | {"contexts": [context], "current-context": "nowhere"}))
        for option, value in {"KUBECONFIG": str(file), "CONTEXT": name, "NAMESPACE": space}.items():
            monkeypatch.setenv(f"HODEI_PROVIDER_{name.upper()}_{option}", value)
    monkeypatch.delenv("HODEI_KUBERNETES_ENABLED")
    settings = make_settings(providers="east=kubernetes,west=kubernetes", stray_grace="1s")
    try:
        async with (
            Server(settings, ephemeral=True) as server,
            Client(settings=ClientSettings(server.address)) as client,
        ):
            script = ["sh", "-c", "sleep 3"]
            jobs = {name: await client.submit(script, providers=[name]) for name in spaces}
            outcomes = await asyncio.gather(*(client.wait(job) for job in jobs.values()))
            assert [outcome.state for outcome in outcomes] == [wire.JOB_STATE_SUCCEEDED] * 2, outcomes
            for name, job in jobs.items():
                (attempt,) = (await client.get(job)).attempts
                assert attempt.provider == name
            assert {each.name for each in await client.providers() if each.healthy} == set(spaces)
        for space in spaces.values():
            await nothing_left(api, space)
    finally:
        for space in spaces.values():
            await api.delete(f"/api/v1/namespaces/{space}")
