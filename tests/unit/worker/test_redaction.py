"""Secrets in output: found however it is cut, wrapped and encoded, and nothing else is touched."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei.secrets import MIN_BYTES, long_enough
from hodei_worker.encodings import base64_forms, plain_forms
from hodei_worker.redaction import MASK, WRAPPED, Patterns, RedactedStream, Redaction

SECRET = b"s3cr3t/+~? key=42"
#: No asterisks: what a mask and its neighbours make together is not the output's.
VALUES = st.binary(min_size=8, max_size=24).filter(lambda value: long_enough(value) and b"*" not in value)
#: Few different bytes, so that matches overlap, with themselves and with each other.
NARROW = st.text("ab\n", min_size=8, max_size=16).map(str.encode).filter(long_enough)


#: What repeats itself, up to an end that may be another; also longer than what is compared at once.
REPEATED = st.builds(
    lambda unit, times, end: (unit * 320)[: 8 + times] + end,
    st.text("ab", min_size=1, max_size=6).map(str.encode),
    st.integers(0, 40) | st.integers(240, 300),
    st.sampled_from([b"", b"", b"a", b"b", b"ba"]),
)


def encodings(value: bytes) -> set[bytes]:
    """Return all that a value may look like."""
    return plain_forms(value) | base64_forms(value)


def in_pieces(redaction: Redaction, pieces: list[bytes]) -> bytes:
    """Return what becomes of pieces that are read one after another."""
    stream = RedactedStream(redaction)
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.finish()])


@st.composite
def outputs(draw: st.DrawFn, values: st.SearchStrategy[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Secrets, and an output that holds them, their encodings and parts of them, cut anywhere."""
    secrets = draw(st.lists(values, min_size=1, max_size=3))
    known = sorted(each for secret in secrets for each in encodings(secret))
    parts: list[bytes] = []
    for part in draw(st.lists(st.sampled_from(known), max_size=6)):
        start = draw(st.sampled_from([0, 0, 0, 1]))
        end = draw(st.sampled_from([len(part)] * 3 + [len(part) - 1]))
        at = draw(st.integers(0, len(part)))
        wrapped = part[:at] + draw(st.sampled_from([b"", b"", b"\n", b"\r\n"])) + part[at:]
        filler = draw(st.sampled_from([b"", b"A" * WRAPPED]))
        parts += [draw(st.binary(max_size=4)).replace(b"*", b""), filler, wrapped[start:end]]
    data = b"".join(parts)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return secrets, [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(outputs(VALUES))
def test_however_output_is_cut_the_same_is_redacted(case: tuple[list[bytes], list[bytes]]) -> None:
    """L23: for any reads, the output is that of one read."""
    secrets, pieces = case
    redaction = Redaction(secrets)
    assert in_pieces(redaction, pieces) == redaction.redact(b"".join(pieces))


@given(outputs(NARROW))
def test_overlapping_secrets_are_redacted_the_same_however_output_is_cut(case: tuple[list[bytes], list[bytes]]) -> None:
    """L23: secrets that overlap, or repeat themselves, are no exception."""
    secrets, pieces = case
    redaction = Redaction(secrets)
    assert in_pieces(redaction, pieces) == redaction.redact(b"".join(pieces))


@given(st.one_of(outputs(VALUES), outputs(NARROW)))
def test_nothing_of_what_a_secret_may_look_like_is_left(case: tuple[list[bytes], list[bytes]]) -> None:
    """L23: in what comes out, no secret is found in any encoding."""
    secrets, pieces = case
    seen = in_pieces(Redaction(secrets), pieces)
    assert not [each for secret in secrets for each in encodings(secret) if each in seen]


@given(st.lists(VALUES, min_size=1, max_size=3), st.binary(max_size=200))
def test_what_holds_no_secret_is_left_as_it_is(secrets: list[bytes], data: bytes) -> None:
    """Only matches are masked, each byte by byte."""
    joined = data.translate(None, b"\r\n")
    if not any(each in text for secret in secrets for each in encodings(secret) for text in (data, joined)):
        assert in_pieces(Redaction(secrets), [bytes([byte]) for byte in data]) == data


@pytest.mark.parametrize("before", [b"", b"u", b"us", b"usr", b"user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
def test_base64_is_found_wherever_the_secret_begins_in_it(before: bytes, encode: object) -> None:
    """L23: of a secret between others all is masked but the characters that it shares with them."""
    assert callable(encode)
    encoded = encode(before + SECRET + b"-and-more")
    seen = Redaction([SECRET]).redact(encoded)
    assert seen.count(MASK) == 1
    assert len(encoded) - len(seen.replace(MASK, b"")) >= len(SECRET) * 8 // 6 - 1


@pytest.mark.parametrize("width", [WRAPPED, 64, 76])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_wrapped_base64_is_found(width: int, end: bytes) -> None:
    """L23: `base64` breaks lines after 76 characters and keys after 64, wherever that is in a secret."""
    for before in range(width):
        encoded = base64.b64encode(b"x" * before + SECRET + b"more")
        lines = end.join(encoded[start : start + width] for start in range(0, len(encoded), width))
        redaction = Redaction([SECRET])
        seen = redaction.redact(lines)
        assert seen.count(MASK) == 1
        assert len(lines) - len(seen.replace(MASK, b"")) >= len(SECRET) * 8 // 6 - 1
        assert in_pieces(redaction, [bytes([byte]) for byte in lines]) == seen


def test_the_end_of_a_line_decides() -> None:
    """A log goes on line by line, even where a line ends as a secret begins."""
    stream = RedactedStream(Redaction([SECRET]))
    assert stream.feed(b"the end is s3cr3t/\n") == b"the end is s3cr3t/\n"


def test_base64_that_stands_alone_is_masked_to_its_end() -> None:
    """L23: the last characters of a secret's own base64 tell of nothing but the secret."""
    for value in (b"12345678", b"123456789", b"1234567890", b"12345678\n"):
        for text in (value, value.strip()):
            encoded = base64.b64encode(text)
            assert Redaction([value]).redact(encoded).rstrip(b"=") == MASK, (value, encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        quote(SECRET.decode(), safe=""),
        quote(SECRET.decode()),
        quote(SECRET.decode(), safe="").lower(),
        quote_plus(SECRET.decode()),
        quote(SECRET.decode(), safe="!*'()"),
    ],
)
def test_what_a_url_makes_of_a_secret_is_found(encoded: str) -> None:
    """L23: percent-encoded, strictly or not, with capital hexadecimal digits or small ones."""
    assert Redaction([SECRET]).redact(f"GET /?key={encoded}&x=1".encode()) == b"GET /?key=***&x=1"


def test_a_secret_in_json_is_found() -> None:
    """L23: quotes, backslashes and line breaks are escaped there."""
    value = 'first "line"\nsecond \\ é'
    for ascii_only in (True, False):
        text = json.dumps({"key": value}, ensure_ascii=ascii_only).encode()
        assert Redaction([value.encode()]).redact(text) == b'{"key": "***"}'


@pytest.mark.parametrize(
    "encoded",
    [
        r"p@ss/\\u0026\"w\u0026r\u003cd\u003e+'=`é\u2028",
        r"p@ss\/\\u0026\"w&r<d>+'=`\u00e9\u2028",
        r"p@ss/\\u0026\u0022w\u0026r\u003Cd\u003E\u002B\u0027=\u0060\u00E9\u2028",
        r"p@ss/\\u0026\"w\u0026r\u003cd\u003e+\u0027\u003d`é\u2028",
        r"p@ss/\\u0026\u0022w\u0026r\u003cd\u003e\u002b\u0027=\u0060\u00e9\u2028",
        r"p@ss/\\u0026\"w\u0026r\u003Cd\u003E+\u0027\u003D`é\u2028",
    ],
    ids=["Go", "PHP", ".NET", "Gson", ".NET, small digits", "Gson, capital digits"],
)
def test_what_encoders_of_json_make_of_a_secret_is_found(encoded: str) -> None:
    """L23: many escape more than they need to; an escape that the secret itself holds stays one."""
    value = "p@ss/\\u0026\"w&r<d>+'=`é\u2028"
    assert json.loads(f'"{encoded}"') == value
    text = json.dumps({"key": "?"}).replace("?", encoded).encode()
    assert Redaction([value.encode()]).redact(text) == b'{"key": "***"}'


def test_each_line_of_a_secret_is_found() -> None:
    """L23: a key of several lines may be printed with something before each of them."""
    key = b"-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\nshort\n-----END KEY-----\n"
    seen = Redaction([key]).redact(b"".join(b"  | " + line for line in key.splitlines(keepends=True)))
    assert seen == b"  | ***\n  | ***\n  | short\n  | ***\n"
    assert Redaction([key]).redact(key.replace(b"\n", b"\r\n")) == b"***\r\n"


def test_what_may_be_the_beginning_of_a_secret_is_held_until_it_is_decided() -> None:
    """L23: a beginning is given out only with what shows that it was none, or at the end."""
    stream = RedactedStream(Redaction([SECRET]))
    assert stream.feed(b"value: s3cr") == b"value: "
    assert stream.feed(b"3t/+~? ke") == b""
    assert stream.feed(b"y=42.\n") == b"***.\n"
    assert stream.feed(b"again s3cr") == b"again "
    assert stream.feed(b"onyms\n") == b"s3cronyms\n"
    assert stream.feed(b"end s3cr3t") == b"end "
    assert stream.finish() == b"s3cr3t"


def test_overlapping_matches_leave_nothing_between_them() -> None:
    """L23: two secrets that share bytes are masked together."""
    redaction = Redaction([b"abcdefgh-1234", b"1234-ijklmnop"])
    assert redaction.redact(b"<abcdefgh-1234-ijklmnop>") == b"<***>"
    assert in_pieces(redaction, [b"<abcdefgh-12", b"34", b"-ijkl", b"mnop>"]) == b"<***>"


def test_values_that_are_too_short_are_known() -> None:
    """L23: white space at the ends and line breaks are no bytes to look for."""
    assert MIN_BYTES == 8
    assert not long_enough(b" 1234567\n")
    assert not long_enough(b"12\n34\n56\n7")
    assert long_enough(b"12345678")


@given(st.lists(REPEATED | NARROW, min_size=1, max_size=6), st.data())
def test_matches_cover_what_each_pattern_by_itself_does(patterns: list[bytes], data: st.DataObject) -> None:
    """L23: every byte of every match, whatever patterns have in common, and where one begins that is not whole."""
    text = b"".join(data.draw(st.lists(st.sampled_from(patterns) | st.sampled_from([b"a", b"b", b"x"]), max_size=6)))
    text = text[: data.draw(st.integers(0, len(text)))]
    begin = data.draw(st.integers(0, min(len(text), 40)))
    covered: set[int] = set()
    undecided = len(text)
    for pattern in patterns:
        for at in range(len(text)):
            if at >= begin and text.startswith(pattern, at):
                covered.update(range(at, at + len(pattern)))
            if len(text) - at < len(pattern) and pattern.startswith(text[at:]):
                undecided = min(undecided, at)
    found = Patterns(patterns)
    assert {place for start, end in found.matches(text, begin) for place in range(start, end)} == covered
    assert found.undecided(text) == undecided


class Counted(bytes):
    """Bytes that count how often they are searched, and how much of them is copied."""

    searched = 0
    copied = 0

    def find(self, *where: Any) -> int:
        """Count a search."""
        self.searched += 1
        return super().find(*where)

    def __contains__(self, part: Any) -> bool:
        """Count a search."""
        self.searched += 1
        return super().__contains__(part)

    def __getitem__(self, place: Any) -> Any:
        """Count what is copied."""
        part = super().__getitem__(place)
        self.copied += len(part) if isinstance(part, bytes) else 0
        return part


@pytest.mark.parametrize("unit", [b"a", b"ab", b"AAAA", b"secret-"])
def test_what_repeats_itself_is_found_in_few_steps(unit: bytes) -> None:
    """W19: a value of one byte over and over does not stop the worker where the output is that byte, too."""
    pattern = (unit * 60_000)[:60_000]
    data = Counted((unit * 200_000)[:200_000])
    patterns = Patterns([pattern, pattern[:59_999], pattern[:40]])
    spans = patterns.matches(data)
    patterns.undecided(data)
    assert (min(spans)[0], max(end for _, end in spans)) == (0, len(data))
    assert len(spans) < 10
    assert data.searched < 20
    assert data.copied < 2 * len(data)


def test_lines_that_begin_the_same_are_told_apart_in_few_steps() -> None:
    """W19: a file of a thousand variables does not stop the worker where the output is full of how they begin."""
    lines = [b'export V%d="of a job"' % number for number in range(1000)]
    patterns = Patterns([*lines, b"\n".join(lines), *(line + b" and more" * 40 for line in lines[:3])])
    for beginning in (b"export X=\n", b"expo", b"export V"):
        data = Counted((beginning * 8192)[: 64 << 10])
        assert not patterns.matches(data)
        patterns.undecided(data)
        assert data.searched < len(data) // len(beginning) * 2 + 10
        assert data.copied < 128 * len(data)
    assert patterns.matches(b"> " + lines[7] + b"\n> " + lines[77]) == [(2, 22), (25, 46)]
