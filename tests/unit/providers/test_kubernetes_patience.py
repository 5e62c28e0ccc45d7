"""For how long a cluster's API is left alone."""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import random
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from hodei_faults.played_api import playing
from hodei_providers.contract import ProviderError, ProviderUnavailableError, QuotaExceededError
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.patience import MOST_SECONDS, pause_seconds, retry_after


def test_pauses_double_at_most_and_those_of_many_spread_over_all_of_it() -> None:
    """W04: whoever was refused together does not come back together, nor sooner than was asked for."""
    for attempt, most in ((1, 0.5), (2, 1.0), (3, 2.0)):
        assert [pause_seconds(attempt, chance=lambda: 0.0), pause_seconds(attempt, chance=lambda: 1.0)] == [0.0, most]
        chances = random.Random(attempt)  # noqa: S311 - the same each time
        many = [pause_seconds(attempt, 7.0, chances.random) - 7.0 for _ in range(1000)]
        # Each quarter has its share.
        assert all(200 < sum(part <= each / most * 4 < part + 1 for each in many) < 300 for part in range(4))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("86400", MOST_SECONDS),
        ("-1", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("soon", 0.0),
        ("", 0.0),
    ],
)
def test_what_an_answer_asks_for_is_read_and_bounded(text: str, seconds: float) -> None:
    """What is no number of seconds asks for nothing."""
    assert retry_after({"Retry-After": text}) == seconds


def test_an_answer_may_name_a_time_of_day() -> None:
    """As gateways do."""
    at = dt.datetime.fromtimestamp(time.time() + 100, dt.UTC)
    assert 90 < retry_after({"Retry-After": email.utils.format_datetime(at, usegmt=True)}) <= 100
    assert retry_after({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0.0


@pytest.mark.parametrize(("status", "kind"), [(429, QuotaExceededError), (503, ProviderUnavailableError)])
async def test_an_api_that_asks_for_much_patience_is_left_alone_for_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[ProviderError]
) -> None:
    """W04, W28: whoever comes meanwhile is told at once, by the refusal's words; what it lets be seen is looked at."""
    came, clock = 0, [1000.0]

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal came
        if request.method == "GET" or request.path != "/api/v1/pods":
            return web.json_response({})
        came += 1
        if came > 1:
            return web.json_response({}, status=201)
        return web.json_response({"message": "not now"}, status=status, headers={"Retry-After": "60"})

    async with asyncio.timeout(30), playing(answer, tmp_path) as config, Api(config) as api:
        monkeypatch.setattr(
            "hodei_providers.kubernetes.patience.time", SimpleNamespace(monotonic=lambda: clock[0], time=time.time)
        )
        with pytest.raises(kind, match=r"not now$") as first:
            await api.create("/api/v1/pods", {})
        clock[0] += 59.5
        with pytest.raises(kind, match="not now; it has asked to be left alone for another 1 s") as later:
            await api.create("/api/v1/pods", {})
        assert (first.value.retry_after, later.value.retry_after) == (60.0, 0.5)
        assert await api.get("/api/v1/pods") == {}
        assert came == 1
        assert await api.create("/apis/another.group/v1/things", {}) == {}
        clock[0] += 1.0
        assert await api.create("/api/v1/pods", {}) == {}
