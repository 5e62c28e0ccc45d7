"""Names of objects, where logs are kept in a bucket."""

from __future__ import annotations

from hodei_logstore.contract import SegmentKey


def object_name(key: SegmentKey) -> str:
    """Return the name of a segment's object. Names are in the order of keys."""
    return f"{key.attempt_uid}/{key.first_sequence:020d}.sealed"


def key_of(name: str) -> SegmentKey | None:
    """Return the key that an object's name tells; None for an object that is no segment."""
    uid, _, file = name.partition("/")
    sequence, _, form = file.partition(".")
    if form != "sealed" or not uid or len(sequence) != 20 or not (sequence.isascii() and sequence.isdigit()):
        return None
    return SegmentKey(uid, int(sequence))


def manifest_name(attempt_uid: str) -> str:
    """Return the name of a log's manifest."""
    return f"{attempt_uid}/manifest.json"


def log_of_manifest(name: str) -> str:
    """Return the attempt's uid of a manifest's name; empty for an object that is none."""
    uid, _, file = name.partition("/")
    return uid if file == "manifest.json" else ""
