"""A proxy of HTTP on the loopback, in plain text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

#: Of the largest request that is taken, in bytes.
MAX_BODY = 1 << 30


class HttpProxy(ABC):
    """Answers every request by `_answer`. An asynchronous context manager.

    :ivar session: what requests are passed on by, once entered.
    """

    session: aiohttp.ClientSession

    def __init__(self) -> None:
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    @abstractmethod
    def _open_session(self) -> aiohttp.ClientSession:
        """Return what requests are passed on by."""

    @abstractmethod
    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""

    async def __aenter__(self) -> Self:
        """Listen."""
        self.session = self._open_session()
        application = web.Application(client_max_size=MAX_BODY)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Break what is under way; listen no more."""
        assert self._runner is not None
        self.cut()
        await self._runner.cleanup()
        await self.session.close()

    def cut(self) -> None:  # noqa: B027 - most calls end by themselves
        """Break what would not end by itself; nothing by default."""
