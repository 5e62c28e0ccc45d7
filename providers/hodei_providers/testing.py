"""The one suite that every provider passes. Subclass `ProviderContract` and give it two fixtures.

    class TestMyProvider(ProviderContract):
        @pytest.fixture
        def make_provider(self, tmp_path): ...   # returns providers over one and the same infrastructure
        @pytest.fixture
        def end_worker(self): ...                # has a worker exit with a code, as if by itself

What differs between providers is asked of their capabilities, never of their type. It runs by pytest with
pytest-asyncio, whose `asyncio_mode` is `auto`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from hodei_providers.contract import (
    Handle,
    LaunchRequest,
    Provider,
    Resources,
    UnsupportedRequestError,
    WorkerPhase,
)

MakeProvider = Callable[[], Provider]
EndWorker = Callable[[Provider, LaunchRequest, int], Awaitable[None]]

INSTALLATION = "installation-of-the-tests"
#: Seconds in which infrastructure has done whatever it does, on a busy machine too.
PATIENCE = 180.0


def make_request(installation_id: str = INSTALLATION, **changes: object) -> LaunchRequest:
    """Return a request for a worker of a name of its own."""
    fields: dict[str, object] = {
        "worker_id": "w" + secrets.token_hex(8),
        "installation_id": installation_id,
        "server_address": "127.0.0.1:1",
        "otp": "otp-" + secrets.token_hex(16),
    }
    return LaunchRequest(**(fields | changes))  # type: ignore[arg-type]  # a test names fields of the request


async def until(provider: Provider, handle: Handle, phase: WorkerPhase) -> None:
    """Wait for a worker to be in a phase."""
    async with asyncio.timeout(PATIENCE):
        while (await provider.describe(handle)).phase is not phase:
            await asyncio.sleep(0.02)


async def destroyed(provider: Provider, handle: Handle, *, grace: float = 0.0) -> None:
    """Destroy a worker, again until that is confirmed."""
    async with asyncio.timeout(PATIENCE):
        while not await provider.destroy(handle, grace=grace):
            await asyncio.sleep(0.05)


class ProviderContract:
    """What every provider does."""

    @pytest.fixture
    async def provider(self, make_provider: MakeProvider) -> AsyncIterator[Provider]:
        """Return an entered provider; whatever the test launched is destroyed afterwards."""
        async with make_provider() as entered:
            yield entered
            for installation in (INSTALLATION, "another"):
                for handle in await entered.list(installation):
                    await destroyed(entered, handle)

    async def test_a_launched_worker_is_listed_and_described(self, provider: Provider) -> None:
        """W11: what exists can be found, by its id alone too."""
        request = make_request()
        handle = await provider.launch(request)
        assert handle.worker_id == request.worker_id
        await until(provider, handle, WorkerPhase.RUNNING)
        assert [each.worker_id for each in await provider.list(INSTALLATION)] == [request.worker_id]
        assert (await provider.describe(Handle(request.worker_id))).phase is WorkerPhase.RUNNING

    async def test_a_launch_is_idempotent(self, provider: Provider) -> None:
        """W13: the same id is the same worker, one after the other and at once."""
        request = make_request()
        handles = await asyncio.gather(*(provider.launch(request) for _ in range(5)))
        handles.append(await provider.launch(request))
        assert len({tuple(sorted(handle.data.items())) for handle in handles}) == 1
        assert len(await provider.list(INSTALLATION)) == 1

    async def test_another_installations_workers_are_nobodys_business(self, provider: Provider) -> None:
        """W12: neither listed nor touched."""
        mine, other = make_request(), make_request("another")
        await provider.launch(mine)
        theirs = await provider.launch(other)
        assert [each.worker_id for each in await provider.list(INSTALLATION)] == [mine.worker_id]
        await destroyed(provider, Handle(mine.worker_id))
        await until(provider, theirs, WorkerPhase.RUNNING)

    async def test_an_exit_is_described_and_watched(self, provider: Provider, end_worker: EndWorker) -> None:
        """W08: with its code, where the infrastructure tells it."""
        request = make_request()
        handle = await provider.launch(request)
        watching = provider.watch(INSTALLATION)
        seen = asyncio.ensure_future(anext(watching))
        await end_worker(provider, request, 7)
        async with asyncio.timeout(PATIENCE):
            description = await seen
        assert description.handle.worker_id == request.worker_id
        assert description.phase is WorkerPhase.EXITED
        assert (await provider.describe(handle)).exit_code in {7, None}
        assert await provider.diagnose(handle)
        with contextlib.suppress(AttributeError):
            await watching.aclose()  # type: ignore[attr-defined]  # an asynchronous generator has it

    async def test_destroying_is_confirmed_and_idempotent(self, provider: Provider) -> None:
        """Once it says so nothing is left; saying it again is fine."""
        handle = await provider.launch(make_request())
        await destroyed(provider, handle, grace=0.1)
        assert await provider.destroy(handle)
        assert await provider.list(INSTALLATION) == []
        assert (await provider.describe(handle)).phase is WorkerPhase.MISSING

    async def test_what_never_was_is_missing(self, provider: Provider) -> None:
        """And destroying it is done at once."""
        handle = Handle("wneverlaunched")
        assert (await provider.describe(handle)).phase is WorkerPhase.MISSING
        assert await provider.destroy(handle)
        await provider.diagnose(handle)

    async def test_the_next_server_finds_the_workers(self, provider: Provider, make_provider: MakeProvider) -> None:
        """W14, W26: they outlive the object that launched them."""
        request = make_request()
        handle = await provider.launch(request)
        async with make_provider() as second:
            assert [each.worker_id for each in await second.list(INSTALLATION)] == [request.worker_id]
            await until(second, handle, WorkerPhase.RUNNING)
            await destroyed(second, Handle(request.worker_id))
        assert await provider.list(INSTALLATION) == []

    async def test_a_cancelled_launch_leaves_nothing_unfound(self, provider: Provider) -> None:
        """W43: whatever came of it can be listed and destroyed."""
        request = make_request()
        task = asyncio.ensure_future(provider.launch(request))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        handle = Handle(request.worker_id)
        async with asyncio.timeout(PATIENCE):
            while not await provider.destroy(handle) or await provider.list(INSTALLATION):
                await asyncio.sleep(0.05)

    async def test_what_cannot_be_honoured_is_refused_by_name(self, provider: Provider) -> None:
        """W37, W38: as the capabilities say."""
        capabilities = provider.capabilities()
        cases: list[tuple[str, LaunchRequest]] = []
        if not capabilities.images:
            cases.append(("image", make_request(image="debian:stable-slim")))
        if not capabilities.resource_limits:
            cases += [
                (f"resources.{name}", make_request(resources=Resources(**{name: 1})))  # type: ignore[arg-type]
                for name in ("cpu_millis", "memory_bytes", "disk_bytes", "gpu_count")
            ]
        for field, request in cases:
            with pytest.raises(UnsupportedRequestError) as caught:
                await provider.launch(request)
            assert caught.value.field == field
        assert await provider.list(INSTALLATION) == []

    async def test_it_is_well_and_says_what_it_can_hold(self, provider: Provider) -> None:
        """At once, or once what it needs there has been made; the capabilities are one value."""
        async with asyncio.timeout(PATIENCE):
            while not (await provider.health()).healthy:
                await asyncio.sleep(0.05)
        assert provider.capabilities() == provider.capabilities()
        assert provider.capabilities().max_workers >= 1
