"""What a log amounts to."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.engine import RowMapping

from hodei.checksum import add_checksums, encode_checksum
from hodei.v1 import log_pb2 as wire
from hodei_server.db.segments import Segment, SegmentState


def sum_up(attempt_uid: str, attempt: RowMapping, segments: Sequence[Segment]) -> wire.LogReceipt:
    """Return what segments amount to together."""
    receipt = wire.LogReceipt(
        attempt_uid=attempt_uid,
        chunks=segments[-1].next_sequence if segments else 0,
        bytes=sum(segment.size for segment in segments),
        lines=sum(segment.lines for segment in segments),
        checksum=encode_checksum(add_checksums(*(segment.checksum for segment in segments))),
        ended=attempt["log_ended"],
        complete=attempt["log_complete"],
        expired=attempt["log_expired"],
    )
    filled = [segment for segment in segments if segment.next_sequence > segment.first_sequence]
    if filled:
        receipt.first_time.FromNanoseconds(filled[0].first_time)
        receipt.last_time.FromNanoseconds(max(segment.last_time for segment in filled))
    previous = None
    for segment in segments:
        if segment.state is SegmentState.CUT:
            if previous is not None and previous.last_sequence + 1 == segment.first_sequence:
                previous.last_sequence = segment.next_sequence - 1
                previous.bytes += segment.size
                previous.lines += segment.lines
            else:
                previous = receipt.cuts.add(
                    first_sequence=segment.first_sequence,
                    last_sequence=segment.next_sequence - 1,
                    bytes=segment.size,
                    lines=segment.lines,
                )
    receipt.truncated = bool(receipt.cuts)
    return receipt
