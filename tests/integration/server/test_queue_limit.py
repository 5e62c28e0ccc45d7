"""A queue that may hold no more jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from hodei.v1 import provider_pb2
from hodei_client import Client, ClientSettings, ResourceExhaustedError
from hodei_server.app import Server
from hodei_server.settings import Settings


async def test_a_full_queue_refuses_new_jobs_and_tells_those_again_that_it_has(
    make_settings: Callable[..., Settings],
) -> None:
    """The same before and after a restart, where several come at once, and until a job leaves it."""
    settings = make_settings(max_queued_jobs="3")
    async with Server(settings) as first, Client(settings=ClientSettings(first.address)) as client:
        await client.set_provider_state("process", provider_pb2.PROVIDER_STATE_DISABLED)
        # Many: some are asked while others are being stored, and some behind them.
        asked = [client.submit(["true"], request_id=str(number)) for number in range(60)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        jobs = {str(number): job for number, job in enumerate(answers) if isinstance(job, str)}
        assert len(jobs) == 3
        assert sum(isinstance(answer, ResourceExhaustedError) for answer in answers) == 57
    async with Server(settings) as second, Client(settings=ClientSettings(second.address)) as client:
        with pytest.raises(ResourceExhaustedError, match="3 jobs wait already"):
            await client.submit(["true"])
        for request_id, job in jobs.items():
            assert await client.submit(["true"], request_id=request_id) == job
        await client.cancel(jobs.popitem()[1])
        await client.submit(["true"])
        with pytest.raises(ResourceExhaustedError):
            await client.submit(["true"])
