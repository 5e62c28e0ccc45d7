"""What a secret's value may look like in a job's output."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote_from_bytes, quote_plus

from hodei.secrets import MIN_BYTES

#: What other programs leave as it is when they encode a URL: the strict ones, paths, and JavaScript's two functions.
_UNQUOTED = ("", "/", "!*'()", "!*'();/?:@&=+$,#")
_ESCAPE = re.compile(rb"%[0-9A-F]{2}")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def plain_forms(value: bytes) -> set[bytes]:
    """Return a value as it is, its lines, and what URLs and JSON make of it; without white space at the ends."""
    text = value.strip()
    found = {text, text.replace(b"\n", b"\r\n")}
    for unquoted in _UNQUOTED:
        found |= _in_either_case(quote_from_bytes(text, unquoted).encode())
    found |= _in_either_case(quote_plus(text).encode())
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        pass
    else:
        found |= {json.dumps(decoded, ensure_ascii=ascii_only).encode()[1:-1] for ascii_only in (True, False)}
    # A text of several lines may be printed with something before each.
    found |= {line.strip() for line in text.splitlines()}
    return {each for each in found if len(each) >= MIN_BYTES}


def _in_either_case(quoted: bytes) -> set[bytes]:
    return {quoted, _ESCAPE.sub(lambda escape: escape[0].lower(), quoted)}


def base64_forms(value: bytes) -> set[bytes]:
    """Return what a value is in base64, in one line: by itself, and wherever it begins in what is encoded."""
    text = value.strip()
    found = {base64.b64encode(each).rstrip(b"=") for each in (value, text)}
    found |= set(_between_others(text))
    return found | {each.translate(_URL_SAFE) for each in found}


def _between_others(text: bytes) -> Iterator[bytes]:
    """Yield the characters that are a text's alone, by how many bytes stand before it in the three that make four."""
    for before, shared in ((0, 0), (1, 2), (2, 3)):
        encoded = base64.b64encode(bytes(before) + text)
        yield encoded[shared : (before + len(text)) * 8 // 6]
