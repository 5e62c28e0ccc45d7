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
#: What encoders of JSON escape that need not be: most nothing; then Go and Ruby on Rails, .NET, and Gson. PHP escapes
#: the slash, by a backslash alone.
_ESCAPED_IN_JSON = ("", "&<>\u2028\u2029", "\"&'+<>`", "&'<=>\u2028\u2029", "/")
#: A backslash and what belongs to it.
_JSON_ESCAPE = re.compile(r"\\(?:u[0-9a-f]{4}|.)")
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
        found |= {form.encode() for form in _json_forms(decoded)}
    # A text of several lines may be printed with something before each.
    found |= {line.strip() for line in text.splitlines()}
    return {each for each in found if len(each) >= MIN_BYTES}


def _in_either_case(quoted: bytes) -> set[bytes]:
    return {quoted, _ESCAPE.sub(lambda escape: escape[0].lower(), quoted)}


def _json_forms(text: str) -> Iterator[str]:
    """Yield what encoders of JSON make of a text, with hexadecimal digits of either case."""
    for ascii_only in (True, False):
        plain = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        capital = _JSON_ESCAPE.sub(lambda escape: escape[0][:2] + escape[0][2:].upper(), plain)
        for begun, digits in ((plain, "04x"), (capital, "04X")):
            for escaped in _ESCAPED_IN_JSON:
                form = begun
                for character in escaped:
                    always = '\\"' if character == '"' else character
                    form = form.replace(always, "\\/" if character == "/" else f"\\u{ord(character):{digits}}")
                yield form


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
