"""The justfile's jobs as processes."""

from __future__ import annotations

from collections.abc import Callable

from hodei_faults.just import SAID, run_just
from hodei_server.app import Server
from hodei_server.settings import Settings


async def test_the_jobs_of_the_justfile_do_what_their_names_say(make_settings: Callable[..., Settings]) -> None:
    """Each follows its log and ends well; the one for a GPU is refused, in words."""
    names = ("hello", "memory", "data")
    async with Server(make_settings(), ephemeral=True) as server:
        code, said = await run_just(server, *(f"job-local-{name}" for name in names))
        assert (code, [name for name in names if SAID[name] not in said]) == (0, []), said
        code, said = await run_just(server, "job-local-gpu")
        assert (code, "resources.gpu_count" in said) == (125, True), said
