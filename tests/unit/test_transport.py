"""What both ends of a connection agree on."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import grpc
import pytest
from grpc import aio

from hodei.address import parse_address
from hodei.transport import CHANNEL_OPTIONS, SERVER_OPTIONS, WORKER_LISTENER_OPTIONS, open_channel
from hodei_faults.balancer import LoadBalancer
from hodei_server.settings import Settings, SettingsError, load_settings

#: So many times faster than what is set; a load balancer's minute, too.
FASTER = 15


def faster(options: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """Return options of gRPC with all that has to do with pings in less time."""
    shortened = ("keepalive_time_ms", "ping_interval_without_data_ms")
    return tuple((name, value // FASTER if name.endswith(shortened) else value) for name, value in options)


@pytest.mark.parametrize("served", [SERVER_OPTIONS, WORKER_LISTENER_OPTIONS], ids=["clients", "workers"])
async def test_an_idle_connection_outlives_a_load_balancer_and_nobody_is_sent_away_for_its_pings(
    served: tuple[tuple[str, int], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W21: with no call under way, both ends ping within a minute, and no more often than the server takes."""
    monkeypatch.setattr("hodei.transport.CHANNEL_OPTIONS", faster(CHANNEL_OPTIONS))
    server = aio.server(options=faster(served))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with (
            asyncio.timeout(60),
            LoadBalancer(("127.0.0.1", port), 60 / FASTER) as balancer,
            open_channel(parse_address(balancer.address)) as channel,
        ):
            await channel.channel_ready()
            await balancer.pinged(5)  # gRPC's own patience with too many ends before
            call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/hodei.v1.Nothing/Is")
            with pytest.raises(aio.AioRpcError) as caught:
                await call(b"")
        assert (balancer.cuts, balancer.sent_away, balancer.accepted) == (0, [], 1)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        await server.stop(None)


def test_pings_of_worker_and_server_come_within_a_minute() -> None:
    """W21: by default, and whatever is set; a load balancer cuts what is silent for longer."""
    assert Settings.model_fields["ping_interval"].default < 60
    assert load_settings({"ping_interval": "59s"}).ping_interval == 59
    with pytest.raises(SettingsError, match="HODEI_PING_INTERVAL"):
        load_settings({"ping_interval": "60s"})


@pytest.mark.parametrize(
    "start",
    ["import hodei_server.app", "import hodei_worker.main", "hodei_cli.main.main()"],
    ids=["server", "worker", "command"],
)
def test_grpc_keeps_out_of_forks_whatever_the_environment_says(start: str) -> None:
    """W23: whoever starts processes has gRPC's fork support switched off, before gRPC is imported."""
    program = f"""
import contextlib, sys
import hodei_cli.main
sys.argv = ["hodei", "server", "--help"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(sys.stderr):
    {start}
from grpc._cython import cygrpc
sys.exit(cygrpc._GRPC_ENABLE_FORK_SUPPORT)
"""
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "1"}, check=True)
