"""What many requests have in common: pages, names, times."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from hodei_server.domain.errors import InvalidRequestError, Violation
from hodei_server.domain.spec import check_text

#: The largest sequence, version or place that the database can hold.
MAX_INTEGER = (1 << 63) - 1


def require(field: str, value: str, *, most: int = 128) -> str:
    """Return a name that was given.

    :raise InvalidRequestError: it is missing, too long or not to be printed.
    """
    if not value:
        raise InvalidRequestError([Violation(field, "is missing")])
    refuse(check_text(field, value, most))
    return value


def refuse(violations: Iterable[Violation]) -> None:
    """Refuse a request of which something is wrong.

    :raise InvalidRequestError: there is a violation.
    """
    found = list(violations)
    if found:
        raise InvalidRequestError(found)


def page_size(value: int, *, default: int, most: int) -> int:
    """Return how much a page holds.

    :raise InvalidRequestError: out of range.
    """
    if not 0 <= value <= most:
        raise InvalidRequestError([Violation("page_size", f"must lie between 0 and {most}")])
    return value or default


def micros(field: str, value: Timestamp) -> int:
    """Return a time in microseconds.

    :raise InvalidRequestError: it is none.
    """
    check_time(field, value)
    return value.ToMicroseconds()


def check_time(field: str, value: Timestamp) -> None:
    """Check that a time lies between the years 1 and 9999.

    :raise InvalidRequestError: it is none.
    """
    if not (-62135596800 <= value.seconds <= 253402300799 and 0 <= value.nanos <= 999_999_999):
        raise InvalidRequestError([Violation(field, "is no valid time")])


class PageTokens:
    """Tokens that go on with one and the same question: the one they were given out for.

    :param request: its page token and page size do not count.
    """

    def __init__(self, request: Message) -> None:
        question = type(request)()
        question.CopyFrom(request)
        for field in ("page_token", "page_size"):
            question.ClearField(field)
        digest = hashlib.sha256(question.SerializeToString(deterministic=True)).hexdigest()
        self._digest = digest[:16]

    def encode(self, place: str) -> str:
        """Return a token for a place."""
        return base64.urlsafe_b64encode(f"{self._digest}{place}".encode()).decode()

    def decode(self, token: str) -> str:
        """Return the place of a token; empty for no token.

        :raise InvalidRequestError: it is not ours, or belongs to another question.
        """
        if not token:
            return ""
        try:
            text = base64.urlsafe_b64decode(token.encode()).decode()
        except (ValueError, binascii.Error):
            text = ""
        place = text.removeprefix(self._digest)
        if place == text or not place or not place.isprintable():
            violation = Violation("page_token", "was not given out for this request: its filters must stay the same")
            raise InvalidRequestError([violation])
        return place

    def decode_number(self, token: str) -> int | None:
        """Return the place of a token where places are numbers; None for no token.

        :raise InvalidRequestError: as `decode`.
        """
        place = self.decode(token)
        return parse_place(place) if place else None


def parse_place(place: str) -> int:
    """Return the number in a page token.

    :raise InvalidRequestError: it is none that the server can have given out.
    """
    if not (place.isascii() and place.isdigit() and len(place) < 20 and int(place) <= MAX_INTEGER):
        raise InvalidRequestError([Violation("page_token", "is not a token that this server gave out")])
    return int(place)
