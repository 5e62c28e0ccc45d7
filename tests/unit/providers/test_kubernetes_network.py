"""Where the network policy says that the server is, by what workers connect to."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from click.testing import CliRunner

from hodei.address import Address, parse_address
from hodei_cli.commands import cli
from hodei_faults.played_api import playing
from hodei_providers.kubernetes import KubernetesConfig
from hodei_providers.kubernetes.api import Api
from hodei_providers.kubernetes.infrastructure import Infrastructure
from hodei_providers.kubernetes.network import find_place, written_place
from hodei_providers.kubernetes.provider import KubernetesProvider
from hodei_providers.registry import ProviderSetupError

POLICY = "/apis/networking.k8s.io/v1/namespaces/space/networkpolicies"
#: What names lead to, as the tests have it.
NAMES = {"hodei.example": ["192.0.2.7", "2001:db8::7", "192.0.2.7"], "laptop": ["127.0.1.1"]}


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Be outside of a cluster, where only these names lead somewhere; return them."""
    there = {name: list(found) for name, found in NAMES.items()}

    really = socket.getaddrinfo

    def look_up(host: str, *more: Any, **options: Any) -> list[Any]:
        if host == "127.0.0.1":
            return really(host, *more, **options)
        if host not in there:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in there[host]]

    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return there


def pods(namespace: str) -> dict[str, Any]:
    """Return the server's pods, as a peer."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": {"app": "hodei-server"}},
    }


def blocks(*cidrs: str) -> list[dict[str, Any]]:
    """Return networks, as peers."""
    return [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]


@pytest.mark.parametrize(
    ("address", "peers", "port"),
    [
        ("https://192.0.2.1:6000", blocks("192.0.2.1/32"), 6000),
        ("192.0.2.1", blocks("192.0.2.1/32"), 50052),
        ("https://[2001:db8::1]:6000", blocks("2001:db8::1/128"), 6000),
        ("hodei.example:443", blocks("192.0.2.7/32", "2001:db8::7/128"), 443),
        ("hodei-server.control.svc:50052", [pods("control")], 50052),
        ("https://hodei-server.control.svc.cluster.local:50052", [pods("control")], 50052),
    ],
)
def test_a_server_outside_is_let_through_by_its_address_and_one_inside_by_its_pods(
    address: str, peers: list[dict[str, Any]], port: int
) -> None:
    """Whichever family, and by name too; with the port that workers are told."""
    place = find_place(KubernetesConfig(), parse_address(address, default_port=0))
    assert (place.peers, place.port) == (peers, port)


def test_a_setting_says_it_whatever_the_address_is() -> None:
    """As where a gateway stands before the server; nothing is looked up then."""
    config = KubernetesConfig(server_cidr="10.0.0.0/8")
    for host in ("192.0.2.1", "nowhere.example", "hodei-server.control.svc"):
        assert find_place(config, Address(host, 1)).peers == blocks("10.0.0.0/8")


@pytest.mark.parametrize(("host", "why"), [("nowhere.example", "can't be looked up"), ("laptop", "is the loopback")])
def test_a_name_that_leads_nowhere_names_the_setting(host: str, why: str) -> None:
    """Also one that leads to the loopback here, as a machine's own name may, and elsewhere to the machine."""
    with pytest.raises(ProviderSetupError, match=f"HODEI_K8S_SERVER_CIDR: .*{host}.*{why}"):
        find_place(KubernetesConfig(), Address(host, 50052))


def test_a_server_that_is_a_pod_may_be_called_by_the_address_of_its_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Networks look at the pod behind it: both are let through."""
    (tmp_path / "namespace").write_text("control\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setattr("hodei_providers.kubernetes.route._OWN_NAMESPACE", tmp_path / "namespace")
    assert find_place(KubernetesConfig(), Address("10.96.0.9", 50052)).peers == [
        *blocks("10.96.0.9/32"),
        pods("control"),
    ]


def test_what_is_printed_is_what_a_server_with_these_settings_applies() -> None:
    """Inside where no address is set; outside by the one that is; a name that leads nowhere is told, and no policy."""
    assert written_place(KubernetesConfig(server_namespace="control")).peers == [pods("control")]

    def printed(address: str) -> Any:
        done = CliRunner().invoke(cli, ["k8s", "manifests"], env={"HODEI_K8S_SERVER_ADDRESS": address})
        if done.exception:
            return str(done.exception)
        (policy,) = [each for each in yaml.safe_load_all(done.output) if each["kind"] == "NetworkPolicy"]
        return policy["spec"]["egress"][1]

    outside = {"to": blocks("192.0.2.1/32"), "ports": [{"protocol": "TCP", "port": 6000}]}
    assert printed("192.0.2.1:6000") == outside
    assert printed("")["to"] == [pods("hodei")]
    assert "HODEI_K8S_SERVER_CIDR" in printed("nowhere.example")


class Policies:
    """A cluster with nothing in it but the network policies that it is given.

    :ivar there: the policy; empty where there is none.
    """

    def __init__(self) -> None:
        self.there: dict[str, Any] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Play the API."""
        if request.path.startswith(POLICY) and request.method in {"PATCH", "POST"}:
            if request.method == "POST" and self.there:
                return web.json_response({"reason": "AlreadyExists", "message": "there"}, status=409)
            self.there = json.loads(await request.text())
        return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})

    def server(self) -> Any:
        """Return where workers may reach the server, and at which port; empty where nowhere."""
        return [(rule["to"], rule["ports"][0]["port"]) for rule in self.there["spec"]["egress"][1:]]


async def test_the_policy_waits_for_the_listener_and_follows_a_name(
    names: dict[str, list[str]], tmp_path: Path
) -> None:
    """The one that the server before has made is right for its workers; one that can't be made anew stays, and is told.

    Where there is none, nothing is let through.
    """
    cluster = Policies()
    async with asyncio.timeout(60), playing(cluster.answer, tmp_path) as played:
        config = dataclasses.replace(played, namespace="space", server_identity="server")
        async with Api(config) as api:
            infrastructure = Infrastructure(api, config)
            await infrastructure.ensure("space")
            assert not cluster.there
            infrastructure.listening(Address("nowhere.example", 6000))
            await infrastructure.ensure("space")
            assert cluster.server() == []
            assert "HODEI_K8S_SERVER_CIDR" in " ".join(infrastructure.problems["space"])
            names["nowhere.example"] = ["192.0.2.8"]
            await infrastructure.ensure("space", again=True)
            assert cluster.server() == [(blocks("192.0.2.8/32"), 6000)]
            assert not infrastructure.problems["space"]
            del names["nowhere.example"]
            await infrastructure.ensure("space", again=True)
            assert cluster.server() == [(blocks("192.0.2.8/32"), 6000)]
            assert infrastructure.problems["space"]


async def test_an_address_that_is_configured_with_its_port_is_let_through_from_the_start(tmp_path: Path) -> None:
    """Nothing else is to be known; without a port the listener's own is waited for."""
    cluster = Policies()
    async with asyncio.timeout(60), playing(cluster.answer, tmp_path) as played:
        config = dataclasses.replace(played, namespace="space", server_identity="server")
        async with KubernetesProvider(config=dataclasses.replace(config, server_address="192.0.2.1:6000")):
            assert cluster.server() == [(blocks("192.0.2.1/32"), 6000)]
        cluster.there = {}
        async with KubernetesProvider(config=dataclasses.replace(config, server_address="192.0.2.1")) as provider:
            assert not cluster.there
            provider.listening("https://192.0.2.1:6001")
            await provider.health()
            assert cluster.server() == [(blocks("192.0.2.1/32"), 6001)]
