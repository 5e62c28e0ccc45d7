"""What `VerifyLogs` finds in one segment's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from hodei.v1 import log_pb2 as wire
from hodei_logstore.file import FileLogStore
from hodei_logstore.testing import KEY, append_all, lines
from hodei_server.db.segments import Segment, SegmentState
from hodei_server.logs.verify import verify_segments


@pytest.mark.parametrize(("form", "small_bytes"), [("sealed", 0), ("closed", 1 << 20)])
async def test_every_byte_of_a_sealed_segment_is_looked_at(tmp_path: Path, form: str, small_bytes: int) -> None:
    """L20: whichever is another than was written, the segment is named; those that say what the file is, too."""
    async with FileLogStore(tmp_path, durability="process", small_bytes=small_bytes) as store:
        await append_all(store, KEY, lines(30))
        info = await store.seal(KEY)
        [path] = tmp_path.rglob(f"*.{form}")
        segment = Segment(
            KEY.attempt_uid,
            KEY.first_sequence,
            SegmentState.SEALED,
            info.next_sequence,
            info.size,
            info.lines,
            info.checksum,
        )
        whole = path.read_bytes()
        assert (await verify_segments(store, [segment]))[0].verdict == wire.LOG_VERDICT_OK
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
            (check,) = await verify_segments(store, [segment])
            assert (check.verdict, check.first_sequence) == (wire.LOG_VERDICT_CORRUPT, KEY.first_sequence), place
            assert KEY.attempt_uid in check.message, place
        path.write_bytes(whole)
        assert (await verify_segments(store, [segment]))[0].verdict == wire.LOG_VERDICT_OK
