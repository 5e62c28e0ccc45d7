"""A load balancer between gRPC's two ends: it cuts what is silent for too long, and sees who pings."""

from __future__ import annotations

import asyncio
import collections
import contextlib

from hodei_faults.proxy import PIECE, FaultyProxy

#: What an HTTP/2 client begins with, the bytes of a frame's head, and the frames that are told of.
_PREFACE = 24
_HEAD = 9
_PING, _GO_AWAY = 6, 7
_ACKNOWLEDGEMENT = 1
#: In so many steps it waits for its patience to end.
_STEPS = 40


class LoadBalancer(FaultyProxy):
    """Forwards connections, and cuts them where neither side has said anything for too long.

    :param patience: seconds of silence; none of those in which this process stood still, with all that might ping.
    :ivar pings: how many pings came from the ``client`` and from the ``server``; answers to pings are none.
    :ivar sent_away: what the server has ended connections with, such as ``too_many_pings``.
    :ivar cuts: how often it was silent for too long.
    """

    def __init__(self, target: tuple[str, int], patience: float) -> None:
        super().__init__(target)
        self.pings: collections.Counter[str] = collections.Counter()
        self.sent_away: list[bytes] = []
        self.cuts = 0
        self._patience = patience
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._steps = 0

    async def pinged(self, times: int) -> None:
        """Wait until both sides have pinged so often, or one connection was cut or ended."""
        while min(self.pings["client"], self.pings["server"]) < times and not self.cuts and not self.sent_away:
            await self._changed.wait()
            self._changed.clear()

    def _heard(self) -> None:
        self._steps = 0
        if self._timer is None:
            self._step()

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _STEPS:
            self._silent()
        self._timer = asyncio.get_running_loop().call_later(self._patience / _STEPS, self._step)

    def _silent(self) -> None:
        self._steps = 0
        self.cuts += bool(self._connections)
        self._changed.set()
        self.reset()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slowly: bool) -> None:
        side = "server" if slowly else "client"
        rest = bytearray()
        skip = 0 if slowly else _PREFACE
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                self._heard()
                rest += data
                if len(rest) >= skip:
                    del rest[:skip]
                    skip = 0
                    self._take(rest, side)
                writer.write(data)
                await writer.drain()

    def _take(self, rest: bytearray, side: str) -> None:
        """Take the frames that are whole."""
        while len(rest) >= _HEAD and len(rest) >= (end := _HEAD + int.from_bytes(rest[:3])):
            kind, flags = rest[3], rest[4]
            if kind == _PING and not flags & _ACKNOWLEDGEMENT:
                self.pings[side] += 1
            if kind == _GO_AWAY and side == "server":
                self.sent_away.append(bytes(rest[_HEAD:end]))
            del rest[:end]
            self._changed.set()
