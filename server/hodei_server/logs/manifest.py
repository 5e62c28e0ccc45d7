"""What stands in S3 beside a log's segments, for whoever has nothing but the bucket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict

from hodei.checksum import encode_checksum
from hodei_logstore.objects import object_name
from hodei_server.db.job_queries import attempt_row
from hodei_server.db.segments import WITHOUT_BYTES, Place, Segment, SegmentState, segments_of
from hodei_server.db.transaction import Transaction
from hodei_server.logs.receipt import sum_up

FORMAT = "hodei-log-1"


def manifest(tx: Transaction, attempt_uid: str, stored: Sequence[Segment]) -> dict[str, Any]:
    """Return a log's manifest: its receipt as far as the log is closed, and its segments with their objects.

    :param stored: segments that have just come to S3; the database tells the others.
    """
    attempt = attempt_row(tx, attempt_uid)
    segments = segments_of(tx, attempt_uid)
    there = {each.first_sequence: each for each in segments if each.place & Place.S3}
    there |= {each.first_sequence: each for each in stored}
    closed = [each for each in segments if each.state is not SegmentState.OPEN]
    # What was dropped or has expired is told by the receipt, however much it is.
    kept = [each for each in closed if each.state not in WITHOUT_BYTES]
    receipt = sum_up(attempt_uid, attempt, closed) if attempt is not None else None
    return {
        "format": FORMAT,
        "attempt_uid": attempt_uid,
        "job_id": "" if attempt is None else attempt["job_id"],
        "attempt_number": 0 if attempt is None else attempt["number"],
        "receipt": {} if receipt is None else MessageToDict(receipt, preserving_proto_field_name=True),
        "segments": [_entry(each, there.get(each.first_sequence)) for each in kept],
    }


def _entry(segment: Segment, stored: Segment | None) -> dict[str, Any]:
    """Return a segment's entry; one that is not in S3 has no object."""
    return {
        "first_sequence": segment.first_sequence,
        "next_sequence": segment.next_sequence,
        "bytes": segment.size,
        "lines": segment.lines,
        "checksum": encode_checksum(segment.checksum).hex(),
        "first_time_unix_nanos": segment.first_time,
        "last_time_unix_nanos": segment.last_time,
        "object": object_name(segment.key) if stored is not None else None,
        "object_bytes": stored.stored_bytes if stored is not None else None,
    }
