"""What a stretch of a log amounts to: sequences, bytes, lines, times, its checksum."""

from __future__ import annotations

import dataclasses

from hodei.checksum import add_checksums
from hodei_logstore.contract import Block, SegmentInfo
from hodei_server.db.segments import Segment, SegmentState


@dataclasses.dataclass(slots=True)
class Figures:
    """What a stretch of a log amounts to."""

    first_sequence: int
    next_sequence: int
    size: int = 0
    lines: int = 0
    checksum: int = 0
    first_time: int = 0
    last_time: int = 0

    def add(self, block: Block) -> None:
        """Count a block that follows."""
        if self.next_sequence == self.first_sequence:
            self.first_time = block.first_time
        self.next_sequence = block.next_sequence
        self.size += block.size
        self.lines += block.lines
        self.checksum = add_checksums(self.checksum, block.checksum)
        self.last_time = max(self.last_time, block.last_time)

    def segment(self, attempt_uid: str, state: SegmentState) -> Segment:
        """Return the figures as a segment's row."""
        return Segment(
            attempt_uid=attempt_uid,
            first_sequence=self.first_sequence,
            state=state,
            next_sequence=self.next_sequence,
            size=self.size,
            lines=self.lines,
            checksum=self.checksum,
            first_time=self.first_time,
            last_time=self.last_time,
        )


def add_figures(first: Figures, second: Figures) -> Figures:
    """Return what two stretches amount to that follow each other."""
    return Figures(
        first_sequence=first.first_sequence,
        next_sequence=second.next_sequence,
        size=first.size + second.size,
        lines=first.lines + second.lines,
        checksum=add_checksums(first.checksum, second.checksum),
        first_time=first.first_time or second.first_time,
        last_time=max(first.last_time, second.last_time),
    )


def figures_of_info(info: SegmentInfo) -> Figures:
    """Return what a segment in a store amounts to."""
    return Figures(
        info.key.first_sequence,
        info.next_sequence,
        info.size,
        info.lines,
        info.checksum,
        info.first_time,
        info.last_time,
    )


def figures_of(row: Segment) -> Figures:
    """Return what a segment's row says."""
    return Figures(
        row.first_sequence, row.next_sequence, row.size, row.lines, row.checksum, row.first_time, row.last_time
    )
