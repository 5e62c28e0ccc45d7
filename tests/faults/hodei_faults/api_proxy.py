"""A proxy before a cluster's API that answers some calls by faults of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

_NOT_PASSED_ON = frozenset({"host", "connection", "transfer-encoding", "content-length", "content-encoding"})


@dataclasses.dataclass(slots=True)
class Fault:
    """An answer in place of the API's.

    :param applies: told the method, the path and the query.
    :param times: how often; then it is over.
    :param after: the call is passed on first, and its answer is lost.
    :param hang_up: the connection is closed without any answer.
    :param hold: the call waits for that, and is passed on then; its answer is the API's own.
    """

    applies: Callable[[str, str, Any], bool]
    times: int = 1
    status: int = 500
    body: Any = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    after: bool = False
    hang_up: bool = False
    hold: asyncio.Event | None = None


class ApiProxy:
    """Listens on the loopback, in plain text; its own credentials are an administrator's.

    :param target: the API's address.
    :param context: how it is trusted, and what is shown to it.
    :ivar faults: the first that applies is used.
    :ivar calls: every call that came, by method and path.
    :ivar came: when each of them came, in monotonic seconds.
    """

    def __init__(self, target: str, context: ssl.SSLContext) -> None:
        self.faults: list[Fault] = []
        self.calls: list[tuple[str, str]] = []
        self.came: list[float] = []
        self.port = 0
        self._target = target
        self._context = context
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._open: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        connector = aiohttp.TCPConnector(ssl=self._context)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=True)
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Listen no more."""
        assert self._runner is not None
        assert self._session is not None
        self.cut()
        await self._runner.cleanup()
        await self._session.close()

    def cut(self) -> None:
        """Break what is under way: watches."""
        for task in list(self._open):
            task.cancel()

    def kubeconfig(self) -> str:
        """Return what leads here."""
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "proxy",
                "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                "users": [{"name": "proxy", "user": {}}],
                "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            }
        )

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        self.came.append(time.monotonic())
        fault = next(
            (each for each in self.faults if each.times and each.applies(request.method, request.path, request.query)),
            None,
        )
        if fault is None:
            return await self._forward(request)
        fault.times -= 1
        if fault.hold is not None:
            await fault.hold.wait()
            return await self._forward(request)
        if fault.after:
            await self._forward(request, lost=True)
        if fault.hang_up:
            assert request.transport is not None
            request.transport.close()
        # With the end of a line, as a watch's events have it.
        text = json.dumps(fault.body or {"kind": "Status", "message": "a fault"}) + "\n"
        return web.Response(text=text, status=fault.status, headers=fault.headers, content_type="application/json")

    async def _forward(self, request: web.Request, *, lost: bool = False) -> web.StreamResponse:
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON}
        body = await request.read()
        url = f"{self._target}{request.path_qs}"
        async with self._session.request(request.method, url, headers=headers, data=body) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _NOT_PASSED_ON}
            if lost or "watch" not in request.query:
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            task = asyncio.current_task()
            assert task is not None
            self._open.add(task)
            try:
                async for piece in answer.content.iter_any():
                    await response.write(piece)
            finally:
                self._open.discard(task)
            return response
