"""How pods find the server, by what is set and where it runs."""

from __future__ import annotations

import pytest

from hodei_providers.contract import Route
from hodei_providers.kubernetes import route as module
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.route import EVERYWHERE, find_route
from hodei_providers.registry import ProviderSetupError

API = "https://192.0.2.1:6443"
HERE = "192.0.2.7"


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be outside of a cluster, on a machine that faces its API with one address."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(module, "_facing", lambda _: HERE)


@pytest.mark.parametrize(
    ("listen", "opened"), [("", HERE), (EVERYWHERE, EVERYWHERE), ("::", "::"), ("192.0.2.9", "192.0.2.9")]
)
def test_pods_connect_to_an_address_even_where_the_listener_opens_at_every_one(listen: str, opened: str) -> None:
    """`0.0.0.0` is where to listen, and nowhere to connect to."""
    reached = "192.0.2.9" if listen == "192.0.2.9" else HERE
    assert find_route(KubernetesConfig(listen=listen), API) == Route(reached, 0, opened)


def test_a_configured_address_is_what_pods_connect_to() -> None:
    """The listener opens where it is told, else everywhere if the address is not of this machine."""
    given = KubernetesConfig(server_address="hodei.example:443", listen=EVERYWHERE)
    assert find_route(given, API) == Route("hodei.example", 443, EVERYWHERE)
    assert find_route(KubernetesConfig(server_address="hodei.example"), API) == Route("hodei.example", 0, EVERYWHERE)


@pytest.mark.parametrize("listen", ["", EVERYWHERE])
def test_a_loopback_is_no_address_for_pods(monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    """As with a cluster that is reached by a forwarded port: the variable is named."""
    monkeypatch.setattr(module, "_facing", lambda _: "127.0.0.1")
    with pytest.raises(ProviderSetupError, match="HODEI_K8S_SERVER_ADDRESS"):
        find_route(KubernetesConfig(listen=listen), API)
