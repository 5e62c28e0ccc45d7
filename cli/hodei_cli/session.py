"""A command's connection to the server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
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
    """Run a coroutine with a client. Ctrl-C cancels it; a second one ends the process, whatever is left to close."""

    async def run() -> T:
        with _second_interrupt_ends():
            async with make_client(ctx) as client:
                return await work(client)

    return asyncio.run(run())


@contextlib.contextmanager
def _second_interrupt_ends() -> Iterator[None]:
    """Let the first Ctrl-C do what asyncio makes of it, and leave the next to the system.

    As an exception in the middle of what closes the event loop, gRPC or the interpreter it only breaks that.
    """
    cancel = signal.getsignal(signal.SIGINT)

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if callable(cancel):
            cancel(number, frame)

    if callable(cancel):  # else Ctrl-C is not heeded, as for what runs behind `nohup`
        signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is first:
            signal.signal(signal.SIGINT, cancel)
