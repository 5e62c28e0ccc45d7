"""Segments' files under damage: what is whole is kept, what is not is told, and nothing else ever comes of it."""

from __future__ import annotations

import asyncio
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hodei_logstore import sealed
from hodei_logstore.contract import (
    Append,
    Block,
    CorruptSegmentError,
    LogStoreError,
    SegmentKey,
    SegmentNotFoundError,
)
from hodei_logstore.disk import key_of, segment_path
from hodei_logstore.file import FileLogStore
from hodei_logstore.open_segment import OpenSegment
from hodei_logstore.record import HEADER_BYTES, MAGIC, decode_header, encode_record
from hodei_logstore.testing import KEY, block

SETTINGS = settings(deadline=None, print_blob=True, max_examples=100)
PIECES = st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=3), min_size=1, max_size=6)
#: What a disk may leave where something else was written.
GARBAGE = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.integers(1, 300).map(bytes),
    st.just(encode_record(block(1 << 40, b"of another place"))),
    st.just(MAGIC),
)


def blocks_of(pieces: list[list[bytes]], first: int = 0) -> list[Block]:
    """Return blocks that follow each other."""
    blocks = []
    for data in pieces:
        blocks.append(block(first, *data))
        first = blocks[-1].next_sequence
    return blocks


def places(blocks: list[Block]) -> list[int]:
    """Return where each record begins in a file, and where the last one ends."""
    found = [len(MAGIC)]
    for each in blocks:
        found.append(found[-1] + HEADER_BYTES + len(each.data))
    return found


def file_of(blocks: list[Block]) -> bytes:
    """Return an open segment's file."""
    return MAGIC + b"".join(encode_record(each) for each in blocks)


def recovered(path: Path, content: bytes) -> tuple[OpenSegment, list[bytes]]:
    """Recover a file, twice; return the segment and the blocks that can be read."""
    path.write_bytes(content)
    first = OpenSegment.recover(KEY, path)
    segment = OpenSegment.recover(KEY, path)
    assert segment.info == first.info
    assert segment.length == path.stat().st_size
    found = [stored.data for stored in segment.read(0, 1 << 30)]
    assert [data for _, data in segment.records()] == found
    return segment, found


def check_recovery(path: Path, blocks: list[Block], content: bytes, kept: int) -> None:
    """See that the first `kept` blocks are served as they were, and that no other is lost that is whole."""
    aside = path.with_suffix(".damaged")
    aside.unlink(missing_ok=True)
    segment, found = recovered(path, content)
    assert found == [each.data for each in blocks[:kept]]
    assert segment.info.next_sequence == (blocks[kept - 1].next_sequence if kept else KEY.first_sequence)
    assert segment.info.size == sum(each.size for each in blocks[:kept])
    left = path.read_bytes() + (aside.read_bytes() if aside.exists() else b"")
    for each in blocks:
        record = encode_record(each)
        assert (record in left) or (record not in content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where an open segment's file is."""
    return tmp_path / "segment.open"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Return a folder for what many examples write, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_a_flipped_byte_costs_the_record_it_is_in_and_none_before(path: Path) -> None:
    """At every place; what is whole behind it was acknowledged perhaps, and is put aside, not destroyed."""
    blocks = blocks_of([[b"one\n", b"two\n"], [b"three"], [b"", b"\n"]])
    content, starts = file_of(blocks), places(blocks)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x41
        # The magic alone is no record: with it damaged, all records are whole.
        kept = len(blocks) if place < len(MAGIC) else sum(start <= place for start in starts) - 1
        check_recovery(path, blocks, bytes(damaged), kept)


def test_a_file_cut_at_any_byte_keeps_the_records_before(path: Path) -> None:
    """A torn write is cut off, and nothing is put aside for it."""
    blocks = blocks_of([[b"one\n", b"two\n"], [b"three"], [b"", b"\n"]])
    content, starts = file_of(blocks), places(blocks)
    for end in range(len(content)):
        check_recovery(path, blocks, content[:end], max(sum(start <= end for start in starts) - 1, 0))
        assert not path.with_suffix(".damaged").exists()


@SETTINGS
@given(pieces=PIECES, garbage=GARBAGE, data=st.data())
def test_what_a_crash_leaves_behind_the_last_record_is_cut(
    folder: Path, pieces: list[list[bytes]], garbage: bytes, data: st.DataObject
) -> None:
    """Whole records stay, also where the tail of the file is overwritten; an append then goes on behind them."""
    blocks = blocks_of(pieces)
    content, starts = file_of(blocks), places(blocks)
    at = data.draw(st.integers(0, len(content)) | st.sampled_from(starts))
    damaged = content[:at] + garbage
    kept = sum(damaged.startswith(content[:start]) for start in starts) - 1
    check_recovery(folder / "crash.open", blocks, damaged, max(kept, 0))


@SETTINGS
@given(data=st.binary(max_size=400), behind_magic=st.booleans())
def test_random_bytes_are_an_open_segment_without_a_record(folder: Path, data: bytes, *, behind_magic: bool) -> None:
    """L20: whatever is in the file, it is opened, and nothing is made up."""
    _, found = recovered(folder / "random.open", MAGIC + data if behind_magic else data)
    assert found == []


@SETTINGS
@given(data=st.binary(min_size=HEADER_BYTES - 1, max_size=HEADER_BYTES + 3), offset=st.integers(0, 3))
def test_random_bytes_have_no_header_or_one_that_can_be_checked(data: bytes, offset: int) -> None:
    """Never an error; a length that could not be is not believed."""
    header = decode_header(data, offset)
    assert header is None or (header.count > 0 and header.length <= 4 << 20)


def seal(path: Path, blocks: list[Block]) -> bytes:
    """Write a sealed segment of small frames and return its bytes."""
    records = []
    for each in blocks:
        header = decode_header(encode_record(each))
        assert header is not None
        records.append((header, each.data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed, "FRAME_BYTES", 200)
        sealed.write_sealed(path, KEY, records)
    return path.read_bytes()


def read_sealed(content: bytes, sequence: int) -> list[bytes]:
    """Read a sealed segment from a sequence on."""

    def pread(offset: int, size: int) -> bytes:
        if offset < 0:
            raise OSError(22, "Invalid argument")
        return content[offset : offset + size]

    index = sealed.read_index(pread, len(content), KEY)
    found = [stored.data for stored in sealed.read_blocks(pread, index, sequence, 1 << 30)]
    if sequence == 0:
        sealed.verify(pread, index)
    return found


def check_sealed(content: bytes, blocks: list[Block]) -> None:
    """See that damage is found when all is read, and that nothing but the truth is read from anywhere."""
    with pytest.raises(CorruptSegmentError):
        read_sealed(content, 0)
    for place in range(1, len(blocks)):
        try:
            found = read_sealed(content, blocks[place].first_sequence)
        except CorruptSegmentError:
            continue
        assert found == [each.data for each in blocks[place:]]


def test_a_flipped_byte_of_a_sealed_segment_is_found_wherever_it_is(tmp_path: Path) -> None:
    """L20: by one error that says so; a wrong byte is never returned."""
    blocks = blocks_of([[b"line %d\n" % number * 4] for number in range(6)])
    content = seal(tmp_path / "x", blocks)
    assert read_sealed(content, 0) == [each.data for each in blocks]
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x41
        check_sealed(bytes(damaged), blocks)


@SETTINGS
@given(pieces=PIECES, data=st.data())
def test_a_cut_sealed_segment_is_found_wherever_the_cut_is(
    folder: Path, pieces: list[list[bytes]], data: st.DataObject
) -> None:
    """L20: at its end, at its beginning or in the middle."""
    blocks = blocks_of(pieces)
    content = seal(folder / "cut.sealed", blocks)
    first = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.one_of(st.integers(first + 1, len(content)), st.just(len(content))))
    check_sealed(content[:first] + content[end:], blocks)


@SETTINGS
@given(data=st.binary(max_size=400))
def test_random_bytes_are_no_sealed_segment(data: bytes) -> None:
    """And say so by the same error."""
    with pytest.raises(CorruptSegmentError):
        read_sealed(data, 0)


def test_a_sealed_segment_under_another_ones_name_is_not_served(tmp_path: Path) -> None:
    """Its own first sequence stands in it."""
    content = seal(tmp_path / "x", blocks_of([[b"a"]]))
    with pytest.raises(CorruptSegmentError):
        sealed.read_index(lambda at, size: content[at : at + size], len(content), SegmentKey(KEY.attempt_uid, 7))


def test_a_frame_that_cannot_be_unpacked_is_damage(tmp_path: Path) -> None:
    """Also where its checksum is right: memory may have failed before the disk did."""
    content = seal(tmp_path / "x", blocks_of([[b"a"]]))
    garbage = content[8:12] + b"\xff" * 20
    frame = sealed.Frame(0, len(garbage), 100, zlib.crc32(garbage), 0, 0, 0)
    with pytest.raises(CorruptSegmentError):
        sealed.read_frame(lambda at, size: garbage[at : at + size], frame, KEY)


@pytest.mark.parametrize(
    "name",
    [
        "ab-²²²²²²²²²²²²²²²²²²²².open",
        "ab-٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣٣.open",
        "ab-1.open",
        "-1.open",
        "ab.open",
        "ab-.sealed",
        "x",
    ],
)
def test_a_name_that_the_store_never_gave_is_not_its_own(name: str) -> None:
    """Nor does it keep the store from listing the others."""
    assert key_of(name) is None


@given(st.text(max_size=60), st.sampled_from(["", ".open", ".sealed", ".closed", ".sealing", ".damaged"]))
def test_any_name_is_a_segments_or_nobodys(text: str, form: str) -> None:
    """A key always leads back to the very name."""
    key = key_of(text + form)
    assert key is None or segment_path(Path(), key, form[1:]).name == text + form


FORMS = st.lists(st.sampled_from(["open", "sealed", "closed", "sealing"]), min_size=1, max_size=2, unique=True)


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, int, bytes]:
    """Draw what happens to a file: how, where, and with which bytes."""
    how = draw(st.sampled_from(["nothing", "cut", "flip", "append", "replace"]))
    return how, draw(st.integers(0, 1 << 16)), draw(GARBAGE)


def damage(content: bytes, how: str, at: int, garbage: bytes) -> bytes:
    """Return a file after what happened to it."""
    at %= len(content)
    flipped = bytes([content[at] ^ (garbage[0] or 1)])
    return {
        "nothing": content,
        "cut": content[:at],
        "flip": content[:at] + flipped + content[at + 1 :],
        "append": content + garbage,
        "replace": garbage,
    }[how]


@SETTINGS
@given(pieces=PIECES, forms=FORMS, happened=st.lists(damages(), min_size=2, max_size=2), max_bytes=st.integers(1, 500))
def test_a_store_is_opened_whatever_its_files_suffered(
    pieces: list[list[bytes]], forms: list[str], happened: list[tuple[str, int, bytes]], max_bytes: int
) -> None:
    """L20: every question gets the truth or an error of the contract; another segment beside it is not harmed."""
    blocks = blocks_of(pieces)
    other = SegmentKey(KEY.attempt_uid, blocks[-1].next_sequence)

    async def run(root: Path) -> None:
        for form, (how, at, garbage) in zip(forms, happened, strict=False):
            path = segment_path(root, KEY, form)
            path.parent.mkdir(exist_ok=True)
            whole = file_of(blocks) if form in {"open", "closed"} else seal(path, blocks)
            path.write_bytes(damage(whole, how, at, garbage))
        (root / KEY.attempt_uid[:2] / "ab-²²²²²²²²²²²²²²²²²²²².open").touch()
        async with FileLogStore(root, durability="process") as store:
            assert await store.append([Append(other, block(other.first_sequence, b"other"))]) == [None]
            assert set(await store.segments()) <= {KEY, other}
            await ask(store, blocks, max_bytes)
            assert [each.data for each in await store.read(other, other.first_sequence)] == [
                block(other.first_sequence, b"other").data
            ]
            await store.remove([KEY])
            assert await store.segments() == [other]
            assert not list(root.rglob(f"{KEY.attempt_uid}-{KEY.first_sequence:020d}.*"))

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))


async def ask(store: FileLogStore, blocks: list[Block], max_bytes: int) -> None:
    """Ask everything of a segment that may be damaged, open and sealed."""
    truth = [each.data for each in blocks]
    for _ in range(2):
        try:
            info = await store.info(KEY)
            assert info.next_sequence <= blocks[-1].next_sequence
            await store.find_time(KEY, 3)
            await store.find_tail(KEY, 2)
            sequence, found = 0, list[bytes]()
            while piece := await store.read(KEY, sequence, max_bytes=max_bytes):
                found += [stored.data for stored in piece]
                sequence = piece[-1].next_sequence
            assert found == truth[: len(found)]
            assert sequence == info.next_sequence
        except (CorruptSegmentError, SegmentNotFoundError):
            pass
        try:
            await store.seal(KEY)
        except LogStoreError as error:
            assert isinstance(error, (CorruptSegmentError, SegmentNotFoundError))  # noqa: PT017 - or there is none
