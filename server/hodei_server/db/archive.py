"""Which segments are to go to S3, and where they are on their way.

A segment's place is noted before its bytes go there and kept until after they are removed, so whoever is killed in
between does it again, and finds it done.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, bindparam, or_, select, update

from hodei_server.db.schema import log_segments
from hodei_server.db.segments import WITHOUT_BYTES, Place, Segment, SegmentState, segment_of
from hodei_server.db.transaction import Transaction

_columns = log_segments.c
_ON_DISK = _columns.place.in_([int(Place.DISK), int(Place.DISK | Place.S3)])
_SAME = (_columns.attempt_uid == bindparam("uid"), _columns.first_sequence == bindparam("first"))
_WAITING = select(*_columns).where(
    _columns.state == int(SegmentState.SEALED), _ON_DISK, _columns.owner == bindparam("of_owner")
)
_ARCHIVED = (
    update(log_segments)
    .where(*_SAME, _columns.state == int(SegmentState.SEALED), _ON_DISK)
    .values(place=int(Place.DISK | Place.S3), stored_bytes=bindparam("to_stored"))
)
_LEFT = (
    update(log_segments)
    .where(*_SAME, _columns.state.in_([int(state) for state in WITHOUT_BYTES]))
    .values(place=int(Place.DISK | Place.S3))
)


def waiting_segments(tx: Transaction, owner: str, limit: int) -> list[Segment]:
    """Return sealed segments that a server's disk has, in the order of their names."""
    query = _WAITING.order_by(_columns.attempt_uid, _columns.first_sequence).limit(limit)
    return [segment_of(row) for row in tx.execute(query, {"of_owner": owner}).mappings()]


def mark_archived(tx: Transaction, segments: Sequence[Segment]) -> list[Segment]:
    """Write down that segments are in S3, too, each with what it takes there.

    :return: those that are not wanted any more: they were dropped or have expired in the meantime. It is written down
        that S3 has them, for whoever removes what is not wanted.
    """
    gone = []
    for each in segments:
        values = {"uid": each.attempt_uid, "first": each.first_sequence, "to_stored": each.stored_bytes}
        if not tx.execute(_ARCHIVED, values).rowcount:
            tx.execute(_LEFT, {"uid": each.attempt_uid, "first": each.first_sequence})
            gone.append(each)
    return gone


def mark_place(tx: Transaction, segments: Sequence[Segment], place: Place) -> None:
    """Write down where segments are from now on."""
    if segments:
        tx.execute(
            update(log_segments).where(*_SAME).values(place=bindparam("to_place")),
            [{"uid": each.attempt_uid, "first": each.first_sequence, "to_place": int(place)} for each in segments],
        )


def removable_segments(tx: Transaction, owner: str, limit: int, *, s3: bool) -> list[Segment]:
    """Return segments that are not wanted any more and may still have bytes on a server's disk, or in S3.

    :param s3: whether those that only S3 has count.
    """
    query = select(*_columns).where(is_removable(owner, s3=s3)).limit(limit)
    return [segment_of(row) for row in tx.execute(query).mappings()]


def is_removable(owner: str, *, s3: bool) -> ColumnElement[bool]:
    """Return the condition of such segments."""
    here: ColumnElement[bool] = _ON_DISK & (_columns.owner == owner)
    place = or_(here, _columns.place == int(Place.S3)) if s3 else here
    unwanted = _columns.state.in_([int(state) for state in WITHOUT_BYTES])
    return and_(unwanted, place)


def any_in_s3(tx: Transaction) -> bool:
    """Whether there are logs that only S3 has."""
    query = select(_columns.attempt_uid).where(
        _columns.state == int(SegmentState.SEALED), _columns.place == int(Place.S3)
    )
    return tx.execute(query.limit(1)).first() is not None


def segments_of_logs(tx: Transaction, attempt_uids: Sequence[str]) -> list[Segment]:
    """Return the segments of many logs."""
    query = select(*_columns).where(_columns.attempt_uid.in_(list(attempt_uids)))
    return [segment_of(row) for row in tx.execute(query).mappings()]
