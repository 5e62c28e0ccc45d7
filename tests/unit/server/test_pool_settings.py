"""Pools as they are written in variables: schedules, numbers that follow, kinds of jobs."""

from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest

from hodei.v1 import types_pb2 as wire
from hodei_providers.config import Given
from hodei_server.settings import SettingsError
from hodei_server.settings.pool_schedule import read_schedule
from hodei_server.settings.pools import Pool, is_pool_option, read_pools

PREFIX = "HODEI_PROVIDER_CLUSTER_"


def at(text: str) -> dt.datetime:
    """Return a moment of the week that begins on Monday, the 2nd of November 2026."""
    day, _, time = text.partition(" ")
    number = 2 + ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].index(day)
    return dt.datetime.fromisoformat(f"2026-11-{number:02}T{time}+00:00")


def given(options: dict[str, str]) -> dict[str, Given]:
    """Return options as they come from variables."""
    return {option: Given(f"{PREFIX}{option.upper()}", text) for option, text in options.items()}


@pytest.mark.parametrize(
    ("schedule", "now", "ready"),
    [
        ("mon-fri 08:00-18:00=10", "mon 08:00", 10),
        ("mon-fri 08:00-18:00=10", "fri 17:59", 10),
        ("mon-fri 08:00-18:00=10", "fri 18:00", 1),
        ("mon-fri 08:00-18:00=10", "sat 12:00", 1),
        ("22:00-06:00=0", "tue 23:00", 0),
        ("22:00-06:00=0", "tue 05:59", 0),
        ("22:00-06:00=0", "tue 06:00", 1),
        ("fri 22:00-06:00=5", "sat 03:00", 5),
        ("fri 22:00-06:00=5", "fri 03:00", 1),
        ("sat-mon 00:00-24:00=3", "sun 12:00", 3),
        ("sat-mon 00:00-24:00=3", "tue 12:00", 1),
        ("sun,wed 00:00-24:00=3", "wed 12:00", 3),
        ("12:00-13:00=7; 08:00-18:00=2", "mon 12:30", 7),
        ("12:00-13:00=7; 08:00-18:00=2", "mon 13:00", 2),
    ],
)
def test_a_schedule_says_how_many_wait(schedule: str, now: str, ready: int) -> None:
    """By day and time, past midnight, the first window that holds; outside of them the pool's own number."""
    assert Pool(min_ready=1, schedule=read_schedule(schedule)).ready(at(now), 0) == ready


@pytest.mark.parametrize(
    "text", ["8-18=3", "mon 25:00-26:00=1", "mon 08:61-09:00=1", "may 08:00-09:00=1", "24:00-01:00=1"]
)
def test_what_is_no_window_is_told(text: str) -> None:
    """With the text itself."""
    with pytest.raises(ValueError, match=r"is no|are no"):
        read_schedule(text)


def test_a_pool_follows_what_jobs_take() -> None:
    """Between its least and its most; by default it doesn't."""
    assert [Pool(min_ready=2, max_ready=5).ready(at("mon 12:00"), taken) for taken in (0, 3, 9)] == [2, 3, 5]
    assert Pool(min_ready=2).ready(at("mon 12:00"), 9) == 2


def test_pools_are_read_by_image_and_size() -> None:
    """Each is for the jobs that ask for exactly that, as their specification encodes it."""
    variables = {
        "pool_min_ready": "1",
        "pool_time_zone": "Europe/Berlin",
        "pools": '[{"image": "python:3", "cpu": "500m", "memory": "1Gi", "min_ready": 2, "max_ready": 4}]',
    }
    settings = read_pools({"cluster": given(variables)}, 300.0)["cluster"]
    assert settings.time_zone == zoneinfo.ZoneInfo("Europe/Berlin")
    plain, other = settings.pools
    assert (plain.image, plain.resources, plain.min_ready) == ("", b"", 1)
    asked = wire.Resources(cpu_millis=500, memory_bytes=1 << 30)
    assert (other.image, other.resources) == ("python:3", asked.SerializeToString(deterministic=True))
    assert (other.min_ready, other.max_ready) == (2, 4)


@pytest.mark.parametrize(
    ("option", "text", "complaint"),
    [
        ("POOLS", "{", "no JSON"),
        ("POOLS", '{"image": "x"}', "a JSON list of objects"),
        ("POOLS", '[{"picture": "x"}]', r"POOLS\[0\].picture: there is no such option"),
        ("POOLS", '[{"cpu": "many", "min_ready": 1}]', r"POOLS\[0\].cpu"),
        ("POOLS", '[{"min_ready": 1}, {"min_ready": 2}]', "two pools are for the same jobs"),
        ("POOLS", '[{"image": "x", "min_ready": 3, "max_ready": 2}]', r"POOLS\[0\]: MAX_READY is at least"),
        ("POOL_SCHEDULE", "always=3", "POOL_SCHEDULE"),
        ("POOL_TIME_ZONE", "Mars/Base", "POOL_TIME_ZONE"),
        ("POOL_MAX_READY", "-1", "POOL_MAX_READY"),
        ("POOL_FOLLOW", "for ever", "POOL_FOLLOW"),
    ],
)
def test_what_cannot_be_is_told_by_its_variable(option: str, text: str, complaint: str) -> None:
    """And by its place in the list."""
    with pytest.raises(SettingsError, match=f"{PREFIX}.*{complaint}|{complaint}"):
        read_pools({"cluster": given({option.lower(): text})}, 300.0)


def test_providers_see_no_option_of_pools() -> None:
    """`POOLS` is one, too."""
    assert is_pool_option("pools")
    assert is_pool_option("pool_min_ready")
    assert not is_pool_option("poolside")
