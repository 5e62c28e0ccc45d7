"""A proxy before a cluster's API that answers some calls by faults of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import ssl
import time
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import web

from hodei_faults.http_proxy import HttpProxy

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


class ApiProxy(HttpProxy):
    """Listens on the loopback, in plain text; its own credentials are an administrator's.

    :param target: the API's address.
    :param context: how it is trusted, and what is shown to it.
    :ivar faults: the first that applies is used.
    :ivar calls: every call that came, by method and path.
    :ivar came: when each of them came, in monotonic seconds.
    """

    def __init__(self, target: str, context: ssl.SSLContext) -> None:
        super().__init__()
        self.faults: list[Fault] = []
        self.calls: list[tuple[str, str]] = []
        self.came: list[float] = []
        self._target = target
        self._context = context
        self._open: set[asyncio.Task[Any]] = set()

    def _open_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._context), auto_decompress=True)

    @property
    def watches(self) -> int:
        """How many of them have begun and go on."""
        return len(self._open)

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
                "clusters": [{"name": "proxy", "cluster": {"server": self.url}}],
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
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON}
        body = await request.read()
        url = f"{self._target}{request.path_qs}"
        async with self.session.request(request.method, url, headers=headers, data=body) as answer:
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
