"""The line of docs/kubernetes.md that finds this machine in kind's network, run by `docker network inspect`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hodei_faults.containers import docker

PAGE = Path(__file__).parents[3] / "docs" / "kubernetes.md"
V4 = {"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}
V6 = {"Subnet": "fc00:f853:ccd:e793::/64"}
V6_GATEWAY = V6 | {"Gateway": "fc00:f853:ccd:e793::1"}


async def recipe(network: str = "kind", **variables: str) -> str:
    """Run the line for a network; return what the variable becomes."""
    (line,) = re.findall(r"^export HODEI_K8S_SERVER_ADDRESS=(?:.*\\\n)*.*", PAGE.read_text(), re.MULTILINE)
    assert "inspect kind " in line
    script = f'{line.replace("inspect kind ", f"inspect {network} ")}\nprintf %s "$HODEI_K8S_SERVER_ADDRESS"'
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", script, env=os.environ | variables, stdout=pipe, stderr=pipe
    )
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    return out.decode()


@pytest.fixture
async def networks() -> AsyncIterator[dict[str, Any]]:
    """Return what an engine that is played says of kind's network, with the engine's address."""
    said: dict[str, Any] = {"Name": "kind", "Id": "0" * 64, "Scope": "local", "Driver": "bridge", "EnableIPv6": True}

    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {"Api-Version": "1.44", "Ostype": "linux"}
        if request.path.endswith("/_ping"):
            return web.Response(text="OK", headers=headers)
        assert request.path.endswith("/networks/kind")
        return web.json_response({key: value for key, value in said.items() if key != "address"}, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    said["address"] = "tcp://{}:{}".format(*runner.addresses[0][:2])
    yield said
    await runner.cleanup()


@pytest.mark.parametrize(
    "subnets",
    [[V6, V4], [V6_GATEWAY, V4], [V4, V6], [V4, V6_GATEWAY], [V4]],
    ids=lambda subnets: json.dumps([each.get("Gateway", "") for each in subnets]),
)
async def test_the_ipv4_gateway_is_found_whichever_subnet_comes_first(
    networks: dict[str, Any], subnets: list[dict[str, str]]
) -> None:
    """Newer engines name the IPv6 subnet first, and without a gateway: the variable was empty then."""
    networks["IPAM"] = {"Driver": "default", "Options": {}, "Config": subnets}
    assert await recipe(DOCKER_HOST=networks["address"], DOCKER_TLS_VERIFY="", DOCKER_CONTEXT="") == "172.18.0.1"


async def test_the_ipv4_gateway_of_a_real_network_of_both_families_is_found() -> None:
    """Made as kind makes its own: the IPv6 subnet is given, the other one the engine's choice."""
    name = f"hodei-test-{secrets.token_hex(4)}"
    docker("network", "create", "--ipv6", "--subnet", f"fc00:{secrets.token_hex(2)}:ccd:e793::/64", name)
    try:
        said = json.loads(docker("network", "inspect", name))[0]["IPAM"]["Config"]
        (gateway,) = [each["Gateway"] for each in said if "." in each.get("Gateway", "")]
        assert await recipe(name) == gateway
    finally:
        docker("network", "rm", name)
