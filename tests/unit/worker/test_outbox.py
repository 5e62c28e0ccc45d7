"""A log on its way out: whatever breaks, each chunk is sent, in order, and kept until it is acknowledged."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from hodei.transport import MAX_MESSAGE_BYTES
from hodei.v1 import log_pb2 as wire
from hodei_logstore.block import MAX_BLOCK_BYTES, chunks_of, parse_block
from hodei_worker import outbox as outbox_module
from hodei_worker.outbox import Outbox, OutgoingBlock, Spool

SETTINGS = settings(max_examples=100, stateful_step_count=40, deadline=None, print_blob=True)
BLOCK_BYTES = 64
WINDOW_BYTES = 256
#: A block ends with the chunk that fills it.
MOST_OF_A_BLOCK = BLOCK_BYTES + 100


class FullDisk:
    """A file that takes so many bytes and no more."""

    def __init__(self, file: BinaryIO, room: int) -> None:
        self.file = file
        self.room = room

    def write(self, data: memoryview) -> int:
        """Write what there is room for."""
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.file.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)


class Sending(RuleBasedStateMachine):
    """A job writes, connections come and break, the disk is full at times."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.written: list[bytes] = []
        self.durable = 0
        self.server = 0
        self.sent = 0

    @initialize(first=st.sampled_from([0, 3]), memory=st.sampled_from([1, 100, 400]), limit=st.sampled_from([100, 500]))
    def start(self, first: int, memory: int, limit: int) -> None:
        """Begin a log."""
        self.first = self.durable = self.server = self.sent = first
        self.memory = memory
        self.limit = limit
        self.spool = Spool(self.folder / "spool", limit)
        self.outbox = Outbox(first, self.spool, memory_limit=memory)

    @rule(data=st.binary(max_size=80), times=st.integers(1, 4))
    def write(self, data: bytes, times: int) -> None:
        """Let the job write, unless its pipes are not to be read."""
        for _ in range(times):
            if self.outbox.full:
                return
            self.outbox.add(wire.LOG_STREAM_STDOUT, data, 1)
            self.written.append(data)

    @rule(room=st.sampled_from([None, 0, 10, 200]))
    def disk(self, room: int | None) -> None:
        """Fill the disk, or make room."""
        file = self.spool._file
        if isinstance(file, FullDisk):
            file.room = 1 << 30 if room is None else room
        elif file is not None and room is not None:
            self.spool._file = cast("BinaryIO", FullDisk(file, room))

    @rule(most=st.integers(1, 5))
    def send(self, most: int) -> None:
        """Send what there is; the server takes what follows and ignores what it has."""
        for _ in range(most):
            block = self.outbox.take()
            if block is None:
                return
            self.receive(block)

    def receive(self, block: OutgoingBlock) -> None:
        """See that a block goes on where the last one of this connection ended, and is what was written."""
        assert block.first_sequence <= self.sent < block.next_sequence or block.first_sequence == self.sent
        self.sent = block.next_sequence
        parsed = parse_block(block.data)
        assert (parsed.first_sequence, parsed.next_sequence) == (block.first_sequence, block.next_sequence)
        expected = self.written[block.first_sequence - self.first : block.next_sequence - self.first]
        assert [chunk.data for chunk in chunks_of(block.data)] == expected
        self.server = max(self.server, block.next_sequence)

    @rule(part=st.integers(0, 3))
    def acknowledge(self, part: int) -> None:
        """Make some of what the server has durable and say so."""
        self.durable += (self.server - self.durable) * part // 3
        self.outbox.acknowledge(self.durable)

    @rule(lost=st.booleans())
    def reconnect(self, *, lost: bool) -> None:
        """Break the connection; the server may have lost what was not durable, or kept it unsaid."""
        if lost:
            self.server = self.durable
        else:
            self.durable = self.server
        self.outbox.rewind(self.durable)
        self.sent = self.durable

    @invariant()
    def counts(self) -> None:
        """Compare the figures with what was written."""
        if hasattr(self, "outbox"):
            assert self.outbox.next_sequence == self.first + len(self.written)
            assert self.outbox.size == sum(map(len, self.written))
            assert self.outbox.acknowledged == self.durable or self.outbox.acknowledged <= self.server
            # One block goes beyond the limit, and one more is held where the disk has no room for it.
            assert self.outbox._held <= self.memory + 2 * MOST_OF_A_BLOCK
            file = self.folder / "spool"
            assert not file.exists() or file.stat().st_size <= self.limit + 2 * BLOCK_BYTES

    def teardown(self) -> None:
        """In the end everything arrives, and nothing is left."""
        if hasattr(self, "outbox"):
            self.reconnect(lost=True)
            for _ in range(len(self.written) + 1):
                self.send(5)
                self.acknowledge(3)
            assert self.outbox.everything_sent
            self.acknowledge(3)
            assert self.server == self.outbox.next_sequence
            assert (self.outbox._held, self.outbox._sent_bytes, self.spool.size) == (0, 0, 0)
            assert not self.outbox.full
            self.outbox.close()
        shutil.rmtree(self.folder)


def test_everything_that_was_written_arrives_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """L01, L04, L05, L14, L28: over broken connections, full memory, a full spool and a full disk."""
    monkeypatch.setattr(outbox_module, "BLOCK_BYTES", BLOCK_BYTES)
    monkeypatch.setattr(outbox_module, "WINDOW_BYTES", WINDOW_BYTES)
    monkeypatch.setattr(outbox_module, "PATIENCE", 0.0)
    run_state_machine_as_test(Sending, settings=SETTINGS)


def test_a_disk_that_fills_up_brings_nothing_of_the_file_back_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W06, L28: what the file had no room for waits behind it, and the job with it, until the file was read."""
    monkeypatch.setattr(outbox_module, "BLOCK_BYTES", BLOCK_BYTES)
    spool = Spool(tmp_path / "spool", 1 << 20)
    outbox = Outbox(0, spool, memory_limit=400)
    while spool.size < 10_000:
        outbox.add(wire.LOG_STREAM_STDOUT, b"x" * 80, 1)
    spool._file = cast("BinaryIO", FullDisk(spool._file, 0))  # type: ignore[arg-type]  # it is open
    while not outbox.full:
        outbox.add(wire.LOG_STREAM_STDOUT, b"x" * 80, 1)
    assert outbox._held < 400 + 2 * MOST_OF_A_BLOCK
    sequence = 0
    while (block := outbox.take()) is not None:
        assert block.first_sequence == sequence
        assert outbox._held < 400 + 2 * MOST_OF_A_BLOCK
        sequence = block.next_sequence
        outbox.acknowledge(sequence)
    assert sequence == outbox.next_sequence
    assert not outbox.full
    outbox.close()


def test_a_job_that_is_always_ahead_of_its_server_waits_and_its_file_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L14, L28: what was read of the file makes room for what comes, round after round; it is never empty meanwhile."""
    monkeypatch.setattr(outbox_module, "BLOCK_BYTES", BLOCK_BYTES)
    spool = Spool(tmp_path / "spool", 1000)
    outbox = Outbox(0, spool, memory_limit=400)
    written: list[bytes] = []
    arrived: list[bytes] = []
    while len(arrived) < 1000:
        while not outbox.full:
            written.append(b"%d" % len(written) * (1 + len(written) % 5))
            outbox.add(wire.LOG_STREAM_STDOUT, written[-1], 1)
        # It goes on with what was given out, and does not wait for the whole file.
        assert 1000 <= spool.size <= (tmp_path / "spool").stat().st_size <= 1000 + 2 * BLOCK_BYTES
        while outbox.full:
            block = outbox.take()
            assert block is not None
            arrived += [chunk.data for chunk in chunks_of(block.data)]
            outbox.acknowledge(block.next_sequence)
        assert spool.size
    assert arrived == written[: len(arrived)]
    outbox.close()
    assert not (tmp_path / "spool").exists()


def test_blocks_stay_small_however_much_has_waited(tmp_path: Path) -> None:
    """L07: far below what gRPC takes, and within what the server takes."""
    outbox = Outbox(0, Spool(tmp_path / "spool", 1 << 30), memory_limit=1 << 20)
    for _ in range(400):
        outbox.add(wire.LOG_STREAM_STDOUT, bytes(65536), 1)
    size = 0
    while (block := outbox.take()) is not None:
        assert len(block.data) <= MAX_BLOCK_BYTES <= MAX_MESSAGE_BYTES // 4
        size += sum(len(chunk.data) for chunk in chunks_of(block.data))
        outbox.acknowledge(block.next_sequence)
    assert size == 400 * 65536
    outbox.close()


def test_a_full_memory_waits_a_moment_for_a_server_that_keeps_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L14: no file is needed then; a server that acknowledges nothing for longer costs the job no wait."""
    now = 100.0
    monkeypatch.setattr(outbox_module, "BLOCK_BYTES", BLOCK_BYTES)
    monkeypatch.setattr("hodei_worker.outbox.time.monotonic", lambda: now)
    spool = Spool(tmp_path / "spool", 1000)
    outbox = Outbox(0, spool, memory_limit=400)

    def fill() -> None:
        while outbox._held < 400 and not spool.size:
            outbox.add(wire.LOG_STREAM_STDOUT, b"x" * 80, 1)

    fill()
    assert not outbox.full  # nothing was ever acknowledged: the log goes on in the file
    block = outbox.take()
    assert block is not None
    outbox.acknowledge(block.next_sequence)
    fill()
    assert outbox.full
    now += outbox_module.PATIENCE
    assert not outbox.full
    outbox.add(wire.LOG_STREAM_STDOUT, b"x" * 80, 1)
    assert spool.size
    outbox.close()
