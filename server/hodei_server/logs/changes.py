"""How a coroutine waits for something to move, without a queue: a wake-up says only "look again"."""

from __future__ import annotations

import asyncio
import weakref


class Change:
    """Wakes whoever waits, any number at once.

    Take `next_move()` first, look at the state, then await it: a move in between is not missed.
    """

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None

    def next_move(self) -> asyncio.Future[None]:
        """Return what is done at the next move. It is shared: wait for it with `asyncio.wait`, never cancel it."""
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        return self._future

    def moved(self) -> None:
        """Wake all who wait."""
        if self._future is not None:
            future, self._future = self._future, None
            if not future.done():
                future.set_result(None)

    @property
    def watched(self) -> bool:
        """Whether anyone has waited since the last move."""
        return self._future is not None


async def wait_for(future: asyncio.Future[None], timeout: float | None) -> bool:  # noqa: ASYNC109 - a bound, not an error
    """Wait for a shared future without cancelling it.

    :param timeout: seconds.
    :return: whether it is done.
    """
    done, _ = await asyncio.wait({future}, timeout=timeout)
    return bool(done)


class ChangesByKey:
    """A change for each of many keys, kept only while somebody holds what it waits for."""

    def __init__(self) -> None:
        self._futures: weakref.WeakValueDictionary[str, asyncio.Future[None]] = weakref.WeakValueDictionary()

    def next_move(self, key: str) -> asyncio.Future[None]:
        """Return what is done when `key` moves next; shared, as that of `Change`."""
        future = self._futures.get(key)
        if future is None:
            self._futures[key] = future = asyncio.get_running_loop().create_future()
        return future

    def moved(self, key: str) -> None:
        """Wake all who wait for `key`."""
        future = self._futures.pop(key, None)
        if future is not None and not future.done():
            future.set_result(None)

    def __len__(self) -> int:
        return len(self._futures)
