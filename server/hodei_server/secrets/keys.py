"""The keys that the values of secrets are kept under: AES-256-GCM, each value bound to its job."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hodei_server.domain.secrets import KEY_ID_BYTES, Sealed, SecretError
from hodei_server.settings.values import SettingsError

KEY_BYTES = 32
_NONCE_BYTES = 12


class _Key:
    """One key of the file. What it is used for gets a key of its own, derived from it."""

    def __init__(self, key: bytes) -> None:
        self.key_id = _derive(key, b"id", KEY_ID_BYTES)
        self.cipher = AESGCM(_derive(key, b"values", KEY_BYTES))
        self._digest_key = _derive(key, b"digests", KEY_BYTES)

    def digest(self, data: bytes) -> bytes:
        return self.key_id + hmac.new(self._digest_key, data, hashlib.sha256).digest()


def _derive(key: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=b"hodei secrets " + purpose).derive(key)


def _bound_to(job_id: str) -> bytes:
    """Return what is authenticated beside a job's values: they are nobody else's."""
    return job_id.encode()


class SecretKeys:
    """Encrypts under the first key, decrypts under any.

    :param keys: of 32 bytes each; at least one.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = [_Key(key) for key in keys]

    @property
    def key_ids(self) -> list[bytes]:
        """Which keys these are."""
        return [key.key_id for key in self._keys]

    def seal(self, job_id: str, values: bytes, asked: bytes) -> Sealed:
        """Return a job's values as they are kept.

        :param asked: all that the job was submitted with, to be compared under its request_id.
        """
        nonce, key = os.urandom(_NONCE_BYTES), self._keys[0]
        data = nonce + key.cipher.encrypt(nonce, values, _bound_to(job_id))
        return Sealed(key.key_id, data, [each.digest(asked) for each in self._keys])

    def open(self, job_id: str, key_id: bytes, data: bytes) -> bytes:
        """Return a job's values.

        :raise SecretError: they were kept under another key, or for another job, or were changed.
        """
        key = next((each for each in self._keys if each.key_id == key_id), None)
        if key is None:
            raise SecretError("they are kept under a key that HODEI_SECRETS_KEY_FILE does not hold")
        try:
            return key.cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _bound_to(job_id))
        except (InvalidTag, ValueError):
            raise SecretError("what is kept of them is damaged") from None


def read_keys(file: Path) -> SecretKeys:
    """Read a file of keys: a line of base64 for each, the newest first; empty lines and those after `#` are left out.

    :raise SettingsError: it can't be used; never with a word of what it holds.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise SettingsError(f"HODEI_SECRETS_KEY_FILE: {file} can't be read: {error.strerror}") from None
    keys: list[bytes] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        try:
            key = base64.b64decode(text, altchars=b"-_" if b"-" in text or b"_" in text else None, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != KEY_BYTES:
            raise SettingsError(
                f"HODEI_SECRETS_KEY_FILE: line {number} of {file} is not {KEY_BYTES} bytes in base64, "
                f"as `openssl rand -base64 {KEY_BYTES}` writes them"
            )
        keys.append(key)
    if not keys:
        raise SettingsError(f"HODEI_SECRETS_KEY_FILE: there is no key in {file}")
    return SecretKeys(keys)
