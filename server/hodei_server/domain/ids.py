"""Random names: jobs, attempts, workers, tokens."""

from __future__ import annotations

import hashlib
import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def _random_name(length: int) -> str:
    # The alphabet has 32 characters, so five bits of each byte choose evenly; one call for all of them.
    return "".join(_ALPHABET[byte & 31] for byte in secrets.token_bytes(length))


def new_job_id() -> str:
    """Return a job's id: `j` and 15 characters that can be read aloud (75 bits)."""
    return "j" + _random_name(15)


def new_attempt_uid() -> str:
    """Return an attempt's uid: 26 characters (130 bits), never derived from its number."""
    return _random_name(26)


def new_worker_id() -> str:
    """Return a worker's id, fit for the name of a container or a pod."""
    return "w" + _random_name(19)


def new_token() -> str:
    """Return a secret of 256 bits, for a one-time token or a session."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> bytes:
    """Return what is kept of a secret: 32 bytes."""
    return hashlib.sha256(token.encode()).digest()
