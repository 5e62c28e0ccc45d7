"""A command's connection to the server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
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
    """Run a coroutine with a client. Ctrl-C ends it, as `run_interruptible` says."""

    async def run() -> T:
        async with make_client(ctx) as client:
            return await work(client)

    return run_interruptible(run())


def run_interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine. Ctrl-C cancels it; a second one ends the process, whatever is left to close."""

    async def run() -> T:
        _cancel_on_interrupt()
        return await work

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None  # nothing else cancels it


def _cancel_on_interrupt() -> None:
    """Let the first Ctrl-C cancel this task, and leave the next to the system.

    The loop is woken for it; what asyncio itself does may come just before the loop goes to sleep, and then waits for
    the next thing that happens. As an exception in the middle of what closes the event loop, gRPC or the interpreter,
    a second one only breaks that.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def interrupt() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if task is not None:
            task.cancel()

    if callable(signal.getsignal(signal.SIGINT)):  # else it is not heeded, as for what runs behind `nohup`
        with contextlib.suppress(NotImplementedError):  # as on Windows, where asyncio's own is what there is
            loop.add_signal_handler(signal.SIGINT, interrupt)
