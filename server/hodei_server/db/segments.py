"""Which parts of which logs exist."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.engine import RowMapping

from hodei.checksum import decode_checksum, encode_checksum
from hodei_logstore.contract import SegmentKey
from hodei_server.db.prepared import prepared
from hodei_server.db.schema import log_segments
from hodei_server.db.transaction import Transaction

_SAME = (log_segments.c.attempt_uid == bindparam("uid"), log_segments.c.first_sequence == bindparam("first"))
_THERE = select(log_segments.c.state).where(*_SAME)
_INSERT = prepared(insert(log_segments))


class SegmentState(enum.IntEnum):
    """What became of a segment."""

    #: May be appended to.
    OPEN = 1
    #: Nothing is added any more; not compressed yet.
    CLOSED = 2
    SEALED = 3
    #: Dropped because the log outgrew its budget.
    CUT = 4
    #: Removed because its time to live had passed.
    EXPIRED = 5


#: A log has no bytes any more in segments of these states.
WITHOUT_BYTES = frozenset({SegmentState.CUT, SegmentState.EXPIRED})


class Place(enum.IntFlag):
    """Where there may be bytes of a segment: noted before they are put there, until after they are removed."""

    NOWHERE = 0
    DISK = 1
    S3 = 2


_MARK = update(log_segments).where(*_SAME).values(state=bindparam("to_state"))
_MARK_SEALED = _MARK.where(log_segments.c.state == int(SegmentState.CLOSED))
_FIGURES = ("state", "next_sequence", "bytes", "lines", "checksum", "first_time", "last_time")
_CLOSE = prepared(
    update(log_segments)
    .where(*_SAME, log_segments.c.state == int(SegmentState.OPEN))
    .values({name: bindparam(f"to_{name}") for name in _FIGURES})
)


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """A segment's row. The figures of an open one are those of the store, not of the row."""

    attempt_uid: str
    first_sequence: int
    state: SegmentState
    next_sequence: int
    size: int = 0
    lines: int = 0
    checksum: int = 0
    first_time: int = 0
    last_time: int = 0
    place: Place = Place.DISK
    stored_bytes: int = 0

    @property
    def key(self) -> SegmentKey:
        """Its name in the log store."""
        return SegmentKey(self.attempt_uid, self.first_sequence)


def insert_segment(tx: Transaction, attempt_uid: str, first_sequence: int, owner: str, *, known_new: bool) -> None:
    """Write down a segment before its first byte. One that is there already stays as it is.

    :param known_new: it can't be there: its attempt is made in the same transaction.
    """
    values: dict[str, object] = {"attempt_uid": attempt_uid, "first_sequence": first_sequence, "owner": owner}
    values["state"] = int(SegmentState.OPEN)
    if known_new:
        tx.insert_later(_INSERT, values)  # behind its attempt's row, which was put off before
    elif tx.execute(_THERE, {"uid": attempt_uid, "first": first_sequence}).one_or_none() is None:
        tx.execute(_INSERT, values)


def close_segment(tx: Transaction, segment: Segment) -> None:
    """Write down the final figures of a segment."""
    tx.execute(
        _CLOSE,
        {
            "uid": segment.attempt_uid,
            "first": segment.first_sequence,
            "to_state": int(segment.state),
            "to_next_sequence": segment.next_sequence,
            "to_bytes": segment.size,
            "to_lines": segment.lines,
            "to_checksum": encode_checksum(segment.checksum),
            "to_first_time": segment.first_time,
            "to_last_time": segment.last_time,
        },
    )


def mark_segments(tx: Transaction, keys: Sequence[tuple[str, int]], state: SegmentState) -> None:
    """Move closed segments on: SEALED from CLOSED, CUT from any."""
    statement = _MARK_SEALED if state is SegmentState.SEALED else _MARK
    if keys:
        tx.execute(statement, [{"uid": uid, "first": first, "to_state": int(state)} for uid, first in keys])


def segments_of(tx: Transaction, attempt_uid: str) -> list[Segment]:
    """Return a log's segments in order."""
    columns = log_segments.c
    rows = tx.execute(
        select(*columns).where(columns.attempt_uid == attempt_uid).order_by(columns.first_sequence)
    ).mappings()
    return [segment_of(row) for row in rows]


def segment_of(row: RowMapping) -> Segment:
    """Return a row as it is used."""
    return Segment(
        attempt_uid=row["attempt_uid"],
        first_sequence=row["first_sequence"],
        state=SegmentState(row["state"]),
        next_sequence=row["first_sequence"] if row["next_sequence"] is None else row["next_sequence"],
        size=row["bytes"] or 0,
        lines=row["lines"] or 0,
        checksum=decode_checksum(row["checksum"]) if row["checksum"] else 0,
        first_time=row["first_time"] or 0,
        last_time=row["last_time"] or 0,
        place=Place(row["place"]),
        stored_bytes=row["stored_bytes"] or 0,
    )


def closed_segments(tx: Transaction, owner: str, limit: int) -> list[tuple[SegmentKey, int]]:
    """Return segments of a server's disk that wait to be compressed, each with the sequence it ends before."""
    columns = log_segments.c
    rows = tx.execute(
        select(columns.attempt_uid, columns.first_sequence, columns.next_sequence)
        .where(columns.state == int(SegmentState.CLOSED), columns.owner == owner)
        .limit(limit)
    )
    return [(SegmentKey(row.attempt_uid, row.first_sequence), row.next_sequence) for row in rows]


def is_closed(tx: Transaction, key: SegmentKey) -> bool:
    """Whether a segment still waits to be compressed."""
    state = tx.execute(_THERE, {"uid": key.attempt_uid, "first": key.first_sequence}).scalar_one_or_none()
    return state == int(SegmentState.CLOSED)
