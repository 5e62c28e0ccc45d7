"""What all calls of a client have in common: its connection, pages, and streams that are not gone on with."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, Self

from grpc import aio

from hodei_client.connection import Connection, Responses, trace_of_environment
from hodei_client.settings import ClientSettings, read_settings


class Calls:
    """Makes calls of a server. An asynchronous context manager.

    All calls of one client belong to one trace: TRACEPARENT's where the environment has one.

    :param server: `host:port`, `http://…` or `https://…`; HODEI_SERVER, else this machine, when empty.
    """

    def __init__(self, server: str = "", *, settings: ClientSettings | None = None) -> None:
        self.settings = settings or read_settings(server)
        self.trace_id = trace_of_environment()
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        """Open a channel; nothing is sent yet."""
        self._connection = Connection(self.settings, self.trace_id)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the channel."""
        if self._connection is not None:
            await self._connection.channel.close()

    @property
    def _connected(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("a client is used inside its 'async with'")
        return self._connection

    async def _call(self, method: Any, request: Any) -> Any:
        return await self._connected.call(method, request)

    async def _pages(self, method: Callable[..., Any], page: Any) -> AsyncGenerator[Any, None]:
        """Yield a list's answers, page by page; the request's page token is used up."""
        while True:
            response = await self._call(method, page)
            yield response
            if not response.next_page_token:
                return
            page.page_token = response.next_page_token

    async def _answers(self, method: Callable[..., Any], request: Any) -> AsyncGenerator[Any, None]:
        """Yield a streaming call's answers; once it breaks, it is over."""
        connection = self._connected
        try:
            await connection.reach()
            # No name for the call: this frame lives in what is raised here, and would keep it.
            async with Responses(method(request, metadata=connection.metadata())) as responses:
                async for response in responses:
                    yield response
                return
        except aio.AioRpcError as error:
            failure = connection.failure(error)
        # Not there: it would be raised from what holds the call.
        raise failure
