"""The little of protobuf's encoding that is written by hand, so that the bytes of logs are not copied at each step."""

from __future__ import annotations


def field_prefix(number: int, length: int) -> bytes:
    """Return what stands before a field whose bytes follow: its number and their length.

    :param number: of the field, from 1 to 15.
    """
    prefix = bytearray((number << 3 | 2,))
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix)
