"""What was used lately, up to a bound."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A dictionary that forgets what was used least lately. Its methods may be called from any thread.

    :param limit: of the sum of its items' weights.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._items: collections.OrderedDict[K, tuple[V, int]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return an item, if it is still known."""
        with self._lock:
            found = self._items.get(key)
            if found is None:
                return None
            self._items.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V, weight: int = 1) -> None:
        """Keep an item, in place of one that had its key."""
        with self._lock:
            self._pop(key)
            self._items[key] = value, weight
            self._held += weight
            while self._held > self._limit and len(self._items) > 1:
                self._pop(next(iter(self._items)))

    @property
    def held(self) -> int:
        """The sum of what is kept, in weights."""
        return self._held

    def pop_oldest(self, wanted: Callable[[V], bool]) -> bool:
        """Forget what was used least lately, if it is wanted; return whether it was."""
        with self._lock:
            key = next(iter(self._items), None)
            if key is None or not wanted(self._items[key][0]):
                return False
            self._pop(key)
            return True

    def pop(self, key: K) -> V | None:
        """Forget an item, and return it."""
        with self._lock:
            return self._pop(key)

    def pop_where(self, wanted: Callable[[K], bool]) -> None:
        """Forget all items whose key is wanted."""
        with self._lock:
            for key in [key for key in self._items if wanted(key)]:
                self._pop(key)

    def _pop(self, key: K) -> V | None:
        found = self._items.pop(key, None)
        if found is None:
            return None
        self._held -= found[1]
        return found[0]
