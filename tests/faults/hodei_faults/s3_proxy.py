"""A proxy before an S3 server: counts what is read, answers with errors of S3's own, is slow, loses answers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
from collections.abc import Mapping

import aiohttp
from aiohttp import web
from yarl import URL

from hodei_faults.http_proxy import HttpProxy

_NOT_PASSED_ON = frozenset({"connection", "transfer-encoding", "content-length", "expect"})


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A call as it was sent.

    :param headers: by their names in lower case.
    :param size: bytes of its body.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    size: int


class S3Proxy(HttpProxy):
    """Listens on the loopback. Requests keep their host, which their signature is of.

    :param target: the server's URL.
    :ivar error: code and status that every call is answered with, in place of the server's answer.
    :ivar delay: seconds before a call is passed on.
    :ivar lossy: calls are passed on, and their answers lost.
    :ivar calls: every call that came, by method and path; `sent` has all of each whose body has come.
    :ivar fetched: bytes of objects that were read.
    :ivar gate: closed, calls wait for it before they are passed on.
    :ivar busy: calls that are under way; `busiest` is the most there ever were.
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        self.error: tuple[str, int] | None = None
        self.delay = 0.0
        self.lossy = False
        self.calls: list[tuple[str, str]] = []
        self.sent: list[Call] = []
        self.fetched = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.busy = self.busiest = 0
        self._target = target.rstrip("/")

    def _open_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(auto_decompress=False)

    def heal(self) -> None:
        """Pass everything on as it comes; forget what came so far."""
        self.error = None
        self.delay = 0.0
        self.lossy = False
        self.calls.clear()
        self.sent.clear()

    async def _answer(self, request: web.Request) -> web.Response:
        self.busy += 1
        self.busiest = max(self.busy, self.busiest)
        try:
            await self.gate.wait()
            await asyncio.sleep(self.delay)
            return await self._answer_now(request)
        except ConnectionError:
            # Who called has gone.
            return web.Response()
        finally:
            self.busy -= 1

    async def _answer_now(self, request: web.Request) -> web.Response:
        self.calls.append((request.method, request.path))
        body = await request.read()
        named = {name.lower(): value for name, value in request.headers.items()}
        self.sent.append(Call(request.method, request.path, dict(request.query), named, len(body)))
        if self.error is not None:
            code, status = self.error
            text = f"<Error><Code>{code}</Code><Message>said by a test</Message></Error>"
            return web.Response(status=status, text=text, content_type="application/xml")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON}
        url = URL(f"{self._target}{request.raw_path}", encoded=True)
        answer: web.Response | None = None
        with contextlib.suppress(aiohttp.ClientError):
            answer = await self._forward(request, url, headers, body)
        if answer is None or self.lossy:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return answer

    async def _forward(self, request: web.Request, url: URL, headers: dict[str, str], body: bytes) -> web.Response:
        async with self.session.request(request.method, url, headers=headers, data=io.BytesIO(body)) as answer:
            content = await answer.read()
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _NOT_PASSED_ON}
            if request.method == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            elif request.method == "GET" and "list-type" not in request.query:
                self.fetched += len(content)
            return web.Response(status=answer.status, headers=kept, body=content)
