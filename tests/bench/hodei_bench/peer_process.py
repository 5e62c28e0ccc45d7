"""Bare gRPC in processes of their own, for comparison; messages are plain bytes.

serve: a server that relays one stream to one follower, answers calls, echoes streams; prints its address.
hold ADDRESS COUNT: opens so many silent streams, each on a connection of its own; prints a line.
put ADDRESS BYTES BLOCK: prints a line, waits for one, then sends so many bytes to the relay in blocks of so many.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio


class Serve:
    """The relay and what else is called."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue(64)

    async def put(self, messages: AsyncIterator[bytes], context: Any) -> bytes:  # noqa: ARG002 - gRPC's shape
        """Take a stream."""
        async for message in messages:
            await self._waiting.put(message)
        await self._waiting.put(None)
        return b""

    async def follow(self, message: bytes, context: Any) -> AsyncIterator[bytes]:  # noqa: ARG002 - gRPC's shape
        """Send that stream on."""
        while (block := await self._waiting.get()) is not None:
            yield block

    async def unary(self, message: bytes, context: Any) -> bytes:  # noqa: ARG002 - gRPC's shape
        """Answer."""
        return message

    async def echo(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # noqa: ARG002
        """Answer each message of a stream."""
        async for message in messages:
            yield message


async def serve() -> None:
    """Serve until killed."""
    parts = Serve()
    server = aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Put": grpc.stream_unary_rpc_method_handler(parts.put),
        "Follow": grpc.unary_stream_rpc_method_handler(parts.follow),
        "Unary": grpc.unary_unary_rpc_method_handler(parts.unary),
        "Echo": grpc.stream_stream_rpc_method_handler(parts.echo),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Bench", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say(f"127.0.0.1:{port}")
    await server.wait_for_termination()


async def put(address: str, size: int, block_bytes: int) -> None:
    """Send bytes once told to."""
    async with aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        block = bytes(block_bytes)

        async def blocks() -> AsyncIterator[bytes]:
            for start in range(0, size, block_bytes):
                yield block if size - start >= block_bytes else block[: size - start]

        say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        call: aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary("/bench.Bench/Put")
        await call(blocks())


async def hold(address: str, count: int) -> None:
    """Open streams and keep them until killed."""
    async with contextlib.AsyncExitStack() as stack:
        streams = []
        for _ in range(count):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = await stack.enter_async_context(aio.insecure_channel(address, options=options))
            echo: aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/bench.Bench/Echo")
            stream = echo()
            await stream.write(b"x")
            await stream.read()
            streams.append(stream)
        say("ready")
        await asyncio.Event().wait()


def say(text: str) -> None:
    """Tell the parent."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """Run the part that is named."""
    match arguments:
        case ["serve"]:
            asyncio.run(serve())
        case ["put", address, size, block]:
            asyncio.run(put(address, int(size), int(block)))
        case ["hold", address, count]:
            asyncio.run(hold(address, int(count)))
        case _:
            sys.exit(f"unknown arguments: {arguments}")


if __name__ == "__main__":
    main(sys.argv[1:])
