"""How many streams are open, of whom and of what; more than may be are refused (L08)."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from grpc import aio

from hodei_server.domain.errors import ResourceExhaustedError


@dataclasses.dataclass(frozen=True, slots=True)
class Bound:
    """How many streams of one thing may be open at once.

    :param kind: of thing: "job", "client", "server".
    :param name: which one.
    """

    kind: str
    name: str
    most: int


class OpenStreams:
    """Counts streams of one sort: each under every bound that it is held to.

    :param sort: what they are called in words: "log streams".
    """

    def __init__(self, sort: str) -> None:
        self._sort = sort
        self._open: collections.Counter[tuple[str, str]] = collections.Counter()

    def count(self, kind: str) -> int:
        """Return how many are open, by those of one kind of thing."""
        return sum(count for (of, _), count in self._open.items() if of == kind)

    @contextlib.contextmanager
    def counted(self, *bounds: Bound) -> Iterator[None]:
        """Count an open stream.

        :raise ResourceExhaustedError: there are too many already.
        """
        for bound in bounds:
            if self._open[bound.kind, bound.name] >= bound.most:
                raise ResourceExhaustedError(f"there are {bound.most} open {self._sort} of this {bound.kind} already")
        keys = [(bound.kind, bound.name) for bound in bounds]
        for key in keys:
            self._open[key] += 1
        try:
            yield
        finally:
            for key in keys:
                self._open[key] -= 1
                if not self._open[key]:
                    del self._open[key]


def peer_of(context: aio.ServicerContext[Any, Any]) -> str:
    """Return the address of who calls, without its port."""
    return context.peer().rpartition(":")[0]
