"""The justfile's jobs in containers."""

from __future__ import annotations

from collections.abc import Callable

from hodei_faults.just import SAID, run_just
from hodei_server.app import Server
from hodei_server.settings import Settings

MakeSettings = Callable[..., Settings]


async def test_the_jobs_of_the_justfile_do_what_their_names_say(make_settings: MakeSettings) -> None:
    """Each follows its log and ends well, within what it asks for; the one for a GPU is refused, in words."""
    async with Server(make_settings(), ephemeral=True) as server:
        code, said = await run_just(server, "job-docker-all")
        assert (code, [word for word in SAID.values() if word not in said]) == (0, []), said
        code, said = await run_just(server, "job-docker-gpu")
        assert (code, "there are no GPUs (HODEI_DOCKER_GPUS)" in said) == (125, True), said
