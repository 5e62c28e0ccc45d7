"""The account of what was archived can tell: what is missing, left over or not yet there is noticed."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import cast

import pytest

from hodei_logstore.contract import SegmentKey
from hodei_logstore.objects import manifest_name, object_name
from hodei_server.db.segments import Place, SegmentState
from hodei_torture.archive import ArchiveAccount
from hodei_torture.bucket import TorturedBucket
from hodei_torture.site import Site

ROWS = (
    ("kept", 0, 5, SegmentState.SEALED, Place.S3),
    ("kept", 5, 9, SegmentState.SEALED, Place.S3),
    ("cut", 0, 5, SegmentState.CUT, Place.NOWHERE),
    ("empty", 0, 0, SegmentState.SEALED, Place.NOWHERE),
)
THERE = {object_name(SegmentKey("kept", 0)), object_name(SegmentKey("kept", 5)), manifest_name("kept")}


class Contents:
    """What a bucket has."""

    def __init__(self, names: set[str], uploads: list[str]) -> None:
        self.objects = lambda: names
        self.uploads = lambda: uploads


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a site whose server has come to rest."""
    site = Site(tmp_path)
    (site.data / "logs").mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(site.data / "hodei.db")) as database, database:
        database.execute("CREATE TABLE log_segments (attempt_uid, first_sequence, next_sequence, state, place)")
        rows = [(uid, first, following, int(state), int(place)) for uid, first, following, state, place in ROWS]
        database.executemany("INSERT INTO log_segments VALUES (?, ?, ?, ?, ?)", rows)
    return site


async def faults(site: Site, monkeypatch: pytest.MonkeyPatch, names: set[str], *uploads: str) -> int:
    """Take the account, without patience; return how many faults it finds."""
    monkeypatch.setattr("hodei_torture.archive.ARCHIVING", 0.1)
    await ArchiveAccount(site, cast("TorturedBucket", Contents(names, list(uploads)))).of_all()
    return len(site.faults)


async def test_what_is_where_it_belongs_is_fine(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs without output have nothing anywhere, and one that was cut may have left its manifest."""
    assert await faults(site, monkeypatch, THERE) == 0
    assert await faults(site, monkeypatch, {*THERE, manifest_name("cut")}) == 0


@pytest.mark.parametrize("gone", sorted(THERE))
async def test_what_is_missing_is_noticed(site: Site, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    """L19: a segment, or a manifest."""
    assert await faults(site, monkeypatch, THERE - {gone}) == 1


@pytest.mark.parametrize("name", [object_name(SegmentKey("cut", 0)), manifest_name("unknown"), "of/nothing"])
async def test_what_is_left_over_is_noticed(site: Site, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """L22: an object of what was cut, a manifest of no log, a name of no form."""
    assert await faults(site, monkeypatch, THERE | {name}) == 1


async def test_an_upload_that_nobody_has_ended_is_noticed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """L22: no listing of objects shows it."""
    assert await faults(site, monkeypatch, THERE, "of/kept") == 1


async def test_what_is_still_on_the_disk_is_noticed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """L19: by its row, or by its file."""
    (site.data / "logs" / "some.sealed").touch()
    assert await faults(site, monkeypatch, THERE) == 1
    with contextlib.closing(sqlite3.connect(site.data / "hodei.db")) as database, database:
        database.execute("UPDATE log_segments SET place = ? WHERE first_sequence = 5", (int(Place.DISK | Place.S3),))
    assert await faults(site, monkeypatch, THERE) == 3
