"""What both ends of a connection agree on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hodei.transport import CHANNEL_OPTIONS, SERVER_OPTIONS
from hodei_server.settings import Settings, SettingsError, load_settings


def test_no_client_is_sent_away_for_pinging_too_often() -> None:
    """W21: keepalive is no more often than the server takes, and more often than a balancer cuts."""
    client, server = dict(CHANNEL_OPTIONS), dict(SERVER_OPTIONS)
    assert client["grpc.keepalive_time_ms"] >= server["grpc.http2.min_ping_interval_without_data_ms"]
    assert server["grpc.http2.max_ping_strikes"] == 0
    for options in (client, server):
        assert options["grpc.keepalive_time_ms"] < 60_000
        assert options["grpc.keepalive_permit_without_calls"] == 1
        assert options["grpc.http2.max_pings_without_data"] == 0


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
