"""A command's connection to the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from hodei.transport import TlsFiles
from hodei_client.client import Client
from hodei_client.settings import ClientSettings, read_settings

T = TypeVar("T")


def make_client(ctx: click.Context, server: str = "") -> Client:
    """Return a client as the options before the command say.

    :param server: wins over them.
    """
    return Client(settings=make_settings(ctx, server))


def make_settings(ctx: click.Context, server: str = "") -> ClientSettings:
    """Return how the options before the command say to reach the server.

    :param server: wins over them.
    """
    options = ctx.find_root().obj or {}
    tls = TlsFiles(options.get("tls_ca"), options.get("tls_cert"), options.get("tls_key"))
    return read_settings(server or options.get("server", ""), tls=tls)


def with_client(ctx: click.Context, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine with a client."""

    async def run() -> T:
        async with make_client(ctx) as client:
            return await work(client)

    return asyncio.run(run())
