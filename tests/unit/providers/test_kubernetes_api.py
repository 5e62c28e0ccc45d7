"""Calls of a cluster's API whose credentials expire, and that fall silent."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from hodei_faults.played_api import Answer, playing
from hodei_providers.contract import ProviderUnavailableError
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes import api as module
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.errors import AlreadyThereError

EVENT = b'{"type": "MODIFIED", "object": {}}\n'

Serve = Callable[[Answer], Awaitable[KubernetesConfig]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Return what serves an API and makes a configuration for it."""
    async with contextlib.AsyncExitStack() as served:

        async def start(answer: Answer) -> KubernetesConfig:
            config = await served.enter_async_context(playing(answer, tmp_path))
            return dataclasses.replace(config, api_timeout=30.0)

        yield start


async def test_a_watch_goes_on_while_expired_credentials_are_read_again(serve: Serve) -> None:
    """W08, W28: its connection is closed when it has ended, and not before."""
    renewed = asyncio.Event()
    refusals = [401]

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({}, status=refusals.pop() if refusals else 200)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(EVENT)
        await renewed.wait()
        await response.write(EVENT)
        return response

    async with Api(await serve(answer)) as api:
        watch = api.watch("/api/v1/pods", seconds=60)
        assert (await anext(watch))["type"] == "MODIFIED"
        rest = asyncio.create_task(anext(watch))
        await api.get("/api/v1/pods")
        assert not refusals
        renewed.set()
        async with asyncio.timeout(60):
            assert (await rest)["type"] == "MODIFIED"
        await watch.aclose()


async def test_a_watch_that_has_gone_silent_is_given_up(serve: Serve) -> None:
    """W10: the API was to end it, and neither does so nor says anything."""
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(EVENT)
        await over.wait()
        return response

    async with Api(dataclasses.replace(await serve(answer), api_timeout=1.0)) as api:
        watch = api.watch("/api/v1/pods", seconds=1)
        assert (await anext(watch))["type"] == "MODIFIED"
        with pytest.raises(ProviderUnavailableError):
            async with asyncio.timeout(30):
                await anext(watch)
    over.set()


async def test_credentials_that_can_t_be_read_again_are_an_outage(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W28: whoever writes them anew may be half-way; the next call reads them."""
    refused = [True]
    monkeypatch.setattr("hodei_providers.kubernetes.patience.BACKOFF_SECONDS", 0.0)

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"items": []}, status=401 if refused[0] else 200)

    config = await serve(answer)
    file = Path(config.kubeconfig)
    async with Api(config) as api:
        whole = file.read_text()
        for half in ("{", json.dumps({"current-context": "only"})):
            file.write_text(half)
            with pytest.raises(ProviderUnavailableError, match="can't be read again"):
                await api.get("/api/v1/pods")
        file.unlink()
        with pytest.raises(ProviderUnavailableError, match="there is no such file"):
            await api.get("/api/v1/pods")
        file.write_text(whole)
        refused[0] = False
        assert await api.get("/api/v1/pods") == {"items": []}


async def test_credentials_that_several_calls_read_again_leave_one_client(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W28: each that another has taken the place of is closed."""
    made: list[CountedClient] = []

    class CountedClient(ApiClient):
        def __init__(self, configuration: Configuration) -> None:
            super().__init__(configuration)
            self.open = True
            made.append(self)

        async def close(self) -> None:
            self.open = False
            await super().close()  # type: ignore[no-untyped-call]  # the SDK declares no types here

    both, waiting = asyncio.Event(), [0]

    async def answer(_: web.Request) -> web.StreamResponse:
        waiting[0] += 1
        if waiting[0] == 3:
            both.set()
        await both.wait()
        return web.json_response({"items": []}, status=401 if waiting[0] == 3 else 200)

    monkeypatch.setattr("hodei_providers.kubernetes.api.ApiClient", CountedClient)
    async with asyncio.timeout(30), Api(await serve(answer)) as api:
        await asyncio.gather(*(api.get("/api/v1/pods") for _ in range(3)))
        assert len(made) > 2
        assert [each for each in made if each.open] == [made[-1]]
    assert not [each for each in made if each.open]


async def test_a_watch_that_something_else_answers_is_an_outage(serve: Serve) -> None:
    """W10: what stands between this and the API says what it likes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"<html>\n")
        return response

    async with Api(await serve(answer)) as api:
        with pytest.raises(ProviderUnavailableError, match="no object"):
            await anext(api.watch("/api/v1/pods", seconds=60))


async def test_a_call_that_is_not_answered_in_its_time_is_an_outage(serve: Serve) -> None:
    """W28: it is made again a few times, and holds up nobody for ever."""
    never = asyncio.Event()

    async def answer(_: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.json_response({})

    async with Api(dataclasses.replace(await serve(answer), api_timeout=0.05)) as api:
        with pytest.raises(ProviderUnavailableError, match="can't be reached: "):
            await api.get("/api/v1/pods")
        never.set()
    # As it counts them itself: not each is heard before its time is over.
    assert set(api.calls) == {("GET", 0)}
    assert api.calls["GET", 0] > 1


async def test_calls_beyond_a_second_s_burst_wait_for_their_turn(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """W28: by a clock that only waiting moves, thirty calls at five a second take as long as the last of them waits."""
    clock = [1000.0]

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({})

    config = dataclasses.replace(await serve(answer), api_rate=5.0)
    async with Api(config) as api:
        monkeypatch.setattr("hodei_providers.kubernetes.pace.time", SimpleNamespace(monotonic=lambda: clock[0]))
        monkeypatch.setattr("hodei_providers.kubernetes.pace.asyncio", SimpleNamespace(sleep=sleep))
        for _ in range(30):
            await api.get("/api/v1/pods")
    assert clock[0] - 1000.0 >= (30 - 6) / 5.0


async def test_calls_that_would_wait_for_too_long_are_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """W28: by a clock that stands still, so many wait as have their turn in time, and no more."""
    turn, waiting = asyncio.Event(), 0

    async def sleep(_seconds: float) -> None:
        nonlocal waiting
        waiting += 1
        await turn.wait()

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({})

    config = dataclasses.replace(await serve(answer), api_rate=4.0)
    monkeypatch.setattr("hodei_providers.kubernetes.api.MAX_TURN_SECONDS", 2.0)
    async with Api(config) as api:
        monkeypatch.setattr("hodei_providers.kubernetes.pace.time", SimpleNamespace(monotonic=lambda: 1000.0))
        monkeypatch.setattr("hodei_providers.kubernetes.pace.asyncio", SimpleNamespace(sleep=sleep))
        calls = [asyncio.create_task(api.get("/api/v1/pods")) for _ in range(4 + 2 * 4)]
        await asyncio.sleep(0)
        assert waiting == 2 * 4
        with pytest.raises(ProviderUnavailableError, match="HODEI_K8S_API_RATE"):
            await anext(api.watch("/api/v1/pods", seconds=60))
        turn.set()
        await asyncio.gather(*calls)


async def test_a_call_that_is_refused_waits_as_long_as_was_computed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W04: before each of the attempts that follow, with what the answer asked for; 5xx as well as 429."""
    answers = [429, 500, 503, 200]
    computed: list[tuple[int, float]] = []
    slept: list[float] = []

    def compute(attempt: int, asked: float = 0.0) -> float:
        computed.append((attempt, asked))
        return attempt + asked / 10

    async def note(seconds: float) -> None:
        slept.append(seconds)

    async def answer(_: web.Request) -> web.StreamResponse:
        status = answers.pop(0)
        return web.json_response({}, status=status, headers={"Retry-After": "5"} if status == 429 else {})

    async with asyncio.timeout(30), Api(await serve(answer)) as api:
        monkeypatch.setattr(module, "pause_seconds", compute)
        monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=note))
        await api.get("/api/v1/pods")
    assert not answers
    assert computed == [(1, 5.0), (2, 0.0), (3, 0.0)]
    assert slept == [1.5, 2.0, 3.0]


async def test_a_pod_that_is_not_counted_by_its_quota_in_time_is_asked_for_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W04: many are made at once, and the cluster's own count is behind; what is there already is not tried again."""
    monkeypatch.setattr("hodei_providers.kubernetes.patience.BACKOFF_SECONDS", 0.0)
    race = 'Operation cannot be fulfilled on resourcequotas "q": the object has been modified'
    answers = [race, race, "", 'pods "p" already exists']

    async def answer(_: web.Request) -> web.StreamResponse:
        message = answers.pop(0)
        return web.json_response({"message": message, "reason": "Conflict"}, status=409 if message else 201)

    async with asyncio.timeout(30), Api(await serve(answer)) as api:
        await api.create("/api/v1/pods", {})
        assert len(answers) == 1
        with pytest.raises(AlreadyThereError):
            await api.create("/api/v1/pods", {})
    assert not answers


async def test_admission_that_can_t_judge_yet_is_asked_again_after_a_moment(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W04: a namespace's quota that was just made is not counted yet; that costs no job an attempt."""
    unknown = 'pods "p" is forbidden: status unknown for quota: q, resources: pods'
    answers = [unknown, unknown, unknown, ""]
    asked: list[float] = []

    def compute(_: int, seconds: float = 0.0) -> float:
        asked.append(seconds)
        return 0.0

    async def answer(_: web.Request) -> web.StreamResponse:
        message = answers.pop(0)
        return web.json_response({"message": message, "reason": "Forbidden"}, status=403 if message else 201)

    monkeypatch.setattr(module, "pause_seconds", compute)
    async with asyncio.timeout(30), Api(await serve(answer)) as api:
        await api.create("/api/v1/pods", {})
    assert not answers
    assert len(asked) == 3
    assert min(asked) > 0.0
