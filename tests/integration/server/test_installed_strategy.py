"""A third party's strategy, in a package that is really installed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_client import Client, ClientSettings
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "hodei-example-strategies"
version = "1"

[project.entry-points."hodei.strategies"]
as-the-job-likes = "hodei_example_strategies:as_the_job_likes"
nearest = "hodei_example_strategies:nearest"
"""
MODULE = """
def as_the_job_likes(spec, candidate, inputs):
    return float(spec.labels.get("likes") == candidate.name) - inputs.start_seconds / 1e6


def nearest(spec, candidate, inputs):
    return float("eu" in candidate.regions)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of packages with it in it, as pip has installed it; this process finds it there."""
    source, target = tmp_path / "source", tmp_path / "site"
    (source / "hodei_example_strategies").mkdir(parents=True)
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "hodei_example_strategies" / "__init__.py").write_text(MODULE)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True, capture_output=True, timeout=100)
    monkeypatch.syspath_prepend(target)
    return target


async def test_a_strategy_that_is_installed_decides_plans_and_replays(
    make_settings: MakeSettings, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a job's word and by the server's setting; it reads the job, the provider and what was measured."""

    async def hodei(*arguments: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("hodei")),
            *("--server", server.address.target, *arguments),
            env=os.environ | {"PYTHONPATH": str(site)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    monkeypatch.setenv("HODEI_PROVIDER_TWO_PRICE_WORKER_HOUR", "5")
    settings = make_settings(providers="one=process,two=process", strategy="as-the-job-likes")
    async with Server(settings, ephemeral=True) as server, Client(settings=ClientSettings(server.address)) as client:
        for likes in ("two", "one"):
            for named in ("", "as-the-job-likes"):
                job = await client.submit(["true"], labels={"likes": likes}, custom_strategy=named)
                assert (await client.wait(job)).state == wire.JOB_STATE_SUCCEEDED
                (decision,) = (await client.explain(job)).decisions
                assert (decision.provider, decision.strategy) == (likes, "as-the-job-likes")
        dry = ("place", "--dry-run", "-o", "json", "--label", "likes=two", "--strategy")
        _, out, _ = await hodei(*dry, "as-the-job-likes", "--", "true")
        assert json.loads(out)["provider"] == "two"
        # No provider has a region: equal scores go by name.
        _, out, _ = await hodei(*dry, "nearest", "--", "true")
        assert json.loads(out)["provider"] == "one"
        for likes in ("two", "one"):
            job = await client.submit(["true"], labels={"likes": likes}, strategy=wire.STRATEGY_LOWEST_COST)
            await client.wait(job)
        file = tmp_path / "decisions.json"
        _, out, _ = await hodei("place", "--recorded")
        file.write_text(out)
        replay = ("place", "--replay", str(file), "-o", "json", "--strategy")
        code, out, err = await hodei(*replay, "as-the-job-likes")
        assert code == 0, err
        (change,) = json.loads(out)["changes"]
        assert (change["provider"], change["would"]) == ("one", "two")
        # What was not recorded is not guessed.
        code, _, err = await hodei(*replay, "nearest")
        assert code == 125
        assert "the strategy nearest failed: of a provider only its name and its inputs are recorded" in err
        code, _, err = await hodei(*replay, "unheard-of")
        assert code == 2
        assert "as-the-job-likes, nearest" in err
