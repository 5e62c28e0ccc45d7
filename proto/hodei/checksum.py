"""The checksum of logs: one number per chunk, added up.

A log's checksum is the sum, modulo 2**256, of the SHA-256 of each chunk over its sequence (8 bytes, little-endian), its
stream (1 byte) and its data. As a sum it is made of its segments' checksums, in any order and without reading them
again, and the sequence inside each term still ties every chunk to its place.
"""

from __future__ import annotations

import hashlib
import struct

_PREFIX = struct.Struct("<QB")
_MODULUS_MASK = (1 << 256) - 1


def chunk_checksum(sequence: int, stream: int, data: bytes) -> int:
    """Return one chunk's term, from 0 to 2**256 - 1.

    :param stream: the number of the `hodei.v1.LogStream` value.
    """
    digest = hashlib.sha256(_PREFIX.pack(sequence, stream))
    digest.update(data)
    return int.from_bytes(digest.digest(), "big")


def add_checksums(*terms: int) -> int:
    """Return the checksum of what several checksums cover together."""
    return sum(terms) & _MODULUS_MASK


def encode_checksum(checksum: int) -> bytes:
    """Return the 32 bytes, big-endian, that stand on the wire and in the database."""
    return checksum.to_bytes(32, "big")


def decode_checksum(data: bytes) -> int:
    """Return the number that `encode_checksum` encoded.

    :raise ValueError: `data` is not 32 bytes long.
    """
    if len(data) != 32:
        message = f"a log checksum has 32 bytes, not {len(data)}"
        raise ValueError(message)
    return int.from_bytes(data, "big")
