"""The justfile's jobs as pods."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hodei_faults.just import SAID, run_just
from hodei_server.app import Server


async def test_the_jobs_of_the_justfile_do_what_their_names_say(make_settings: Callable[..., Any], api: Any) -> None:
    """Each follows its log and ends well, within what it asks for; where no node has a GPU, that job says so."""
    nodes = (await api.get("/api/v1/nodes"))["items"]
    has_gpu = any("nvidia.com/gpu" in node["status"]["allocatable"] for node in nodes)
    async with Server(make_settings(), ephemeral=True) as server:
        code, said = await run_just(server, "job-k8s-all")
        assert (code, [word for word in SAID.values() if word not in said]) == (0, []), said
        # What the job asked for, and the agent's on top.
        near = re.search(r"in use: (\d+) of 320 MiB", said)
        assert near is not None, said
        assert 320 * 0.9 < int(near[1]) < 320
        if not has_gpu:
            code, said = await run_just(server, "job-k8s-gpu")
            assert (code, "Insufficient nvidia.com/gpu" in said) == (125, True), said
