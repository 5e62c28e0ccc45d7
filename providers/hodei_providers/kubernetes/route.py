"""How pods reach the server: by what is configured, by its Service, or by the way that leads to the cluster."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from hodei.address import parse_address
from hodei_providers.contract import Route
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.registry import ProviderSetupError

SERVICE = "hodei-server"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - a pod's address is not known before, and the listener asks for tokens by TLS
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def find_route(config: KubernetesConfig, api: str) -> Route:
    """Return the address that pods connect to, and where the listener opens for them.

    :param api: the address of the cluster's API.
    :raise ProviderSetupError: no address of this machine is known that pods can reach.
    """
    if config.server_address:
        address = parse_address(config.server_address, default_port=0)
        return Route(address.host, address.port, config.listen or _own(address.host) or EVERYWHERE)
    if namespace := own_namespace():
        return Route(f"{SERVICE}.{namespace}.svc", 0, config.listen or EVERYWHERE)
    # Where the listener opens is what pods connect to, unless it is every address: none can be connected to by that.
    everywhere = bool(config.listen) and ipaddress.ip_address(config.listen).is_unspecified
    here = _facing(api) if everywhere or not config.listen else config.listen
    if not here or ipaddress.ip_address(here).is_loopback:
        raise ProviderSetupError(
            f"HODEI_K8S_SERVER_ADDRESS: not set, and the cluster's API at {api} does not tell which address of this "
            "machine its pods can reach: set it"
        )
    return Route(here, 0, config.listen or here)


def own_namespace() -> str:
    """Return the namespace that this process is a pod of; empty outside of a cluster."""
    if os.environ.get("KUBERNETES_SERVICE_HOST") and _OWN_NAMESPACE.is_file():
        return _OWN_NAMESPACE.read_text().strip()
    return ""


def _own(host: str) -> str:
    """Return an address if it is one of this machine."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except (OSError, ValueError):
        return ""
    return host


def _facing(api: str) -> str:
    """Return the address of this machine on the way to the API; nothing is sent."""
    parts = urlsplit(api)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return ""
