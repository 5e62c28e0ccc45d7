"""Where workers find the server, as a network policy says it: pods of the cluster, or addresses outside of it."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from hodei.address import Address, parse_address
from hodei_providers.kubernetes.config import KubernetesConfig
from hodei_providers.kubernetes.route import SERVICE, own_namespace
from hodei_providers.registry import ProviderSetupError

Manifest = dict[str, Any]

#: Of the workers' listener.
DEFAULT_PORT = 50052


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where the server is.

    :param peers: as in a NetworkPolicy's `to`.
    """

    peers: Sequence[Manifest]
    port: int


def written_place(config: KubernetesConfig) -> Place:
    """Return the place by the configuration alone; without an address in it the server is in the cluster.

    :raise ProviderSetupError: see `find_place`.
    """
    written = config.server_address or f"{SERVICE}.{config.server_namespace}.svc"
    return find_place(config, parse_address(written, default_port=0))


def find_place(config: KubernetesConfig, address: Address) -> Place:
    """Return the place of an address that workers connect to. Names outside of the cluster are looked up.

    :raise ProviderSetupError: a name leads nowhere from here.
    """
    port = address.port or DEFAULT_PORT
    if config.server_cidr:
        return Place([_block(config.server_cidr)], port)
    labels = address.host.split(".")
    if labels[2:3] == ["svc"]:
        # A Service's pods are in its own namespace.
        return Place([_pods(labels[1])], port)
    peers = [_block(str(ipaddress.ip_network(found))) for found in _addresses(address.host)]
    own = own_namespace()
    if own:
        # The address of a Service stands for its pods, and nothing else tells that it is one.
        peers.append(_pods(own))
    return Place(peers, port)


def _block(cidr: str) -> Manifest:
    return {"ipBlock": {"cidr": cidr}}


def _pods(namespace: str) -> Manifest:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": {"app": SERVICE}},
    }


def _addresses(host: str) -> Sequence[str]:
    """Return the addresses of a host, in order.

    :raise ProviderSetupError: there are none that pods could reach.
    """
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise _unknown(host, f"can't be looked up here ({error.strerror})") from None
    # A machine's own name may lead to its loopback there, and only there.
    reachable = [each for each in found if not ipaddress.ip_address(each).is_loopback]
    if not reachable:
        raise _unknown(host, "is the loopback here")
    return sorted(reachable)


def _unknown(host: str, why: str) -> ProviderSetupError:
    return ProviderSetupError(
        f"HODEI_K8S_SERVER_CIDR: not set, and HODEI_K8S_SERVER_ADDRESS, {host}, {why}, so that the network policy "
        f"can't let workers reach it: set it, or write a Service of the cluster as {SERVICE}.NAMESPACE.svc"
    )
