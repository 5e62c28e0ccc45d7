"""Where the workers' listener opens: at its own address, and at each that an enabled provider's workers need."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping

from hodei.address import Address, parse_address
from hodei_providers.contract import Provider
from hodei_server.authority import WorkerAuthority
from hodei_server.rpc.listener import Credentials, Listener, ListenerTls, read_pem
from hodei_server.settings import Settings
from hodei_server.work.fleet import Reach


def open_worker_listener(
    listener: Listener, settings: Settings, providers: Mapping[str, Provider]
) -> tuple[Address, dict[str, Reach]]:
    """Take the addresses, and tell the providers.

    Where a provider's workers are not on the loopback, everything they use is encrypted: with the certificate that the
    settings name, else with one of an authority that is made for the purpose.

    :return: the listener's own address, and how the workers of each provider reach it.
    :raise hodei_server.rpc.listener.ListenerError: an address can't be listened on, or a file can't be read.
    """
    routes = {name: route for name, provider in providers.items() if (route := provider.route()) is not None}
    asked = parse_address(settings.worker_listen)
    given = ListenerTls(settings.worker_tls_cert, settings.worker_tls_key, prefix="HODEI_WORKER_")
    hosts = {host for route in routes.values() for host in (route.host, route.listen) if host}
    abroad: Credentials = given
    authority_pem = read_pem("HODEI_WORKER_TLS_CA", settings.worker_tls_ca) if settings.worker_tls_ca else None
    made: bytes | None = None
    if routes and settings.worker_tls_cert is None:
        authority = WorkerAuthority(settings.data_dir / "tls", [*hosts, asked.host])
        abroad, made = authority, authority.ca_pem
    # At every address is at the loopback, too: there can't be one at each with the same port.
    everywhere = next((route.listen for route in routes.values() if _is_everywhere(route.listen)), "")
    spread = bool(everywhere) and asked.is_loopback
    own_made = made is not None and (spread or asked.tls is True or not (asked.is_loopback or settings.allow_plaintext))
    own = listener.bind(
        dataclasses.replace(asked, host=everywhere) if spread else asked,
        abroad if own_made else given,
        variable="HODEI_WORKER_LISTEN",
        allow_plaintext=settings.allow_plaintext and not spread,
    )
    local = dataclasses.replace(own, host=asked.host)
    here = Reach(settings.worker_address or str(local), made if own_made else authority_pem)
    for host in sorted({route.listen for route in routes.values() if route.listen and not _covers(own, route.listen)}):
        names = ", ".join(name for name, route in routes.items() if route.listen == host)
        listener.bind(
            Address(host, own.port), abroad, variable=f"the workers' listener for {names}", allow_plaintext=False
        )
    reach = dict.fromkeys(providers, here)
    for name, route in routes.items():
        # An own listener in plain text, allowed by a setting, that covers the route's address is what answers there.
        encrypted = own.tls or not _covers(own, route.listen or route.host)
        address = Address(route.host, route.port or own.port, encrypted)
        reach[name] = Reach(str(address), (made or authority_pem) if encrypted else None)
        providers[name].listening(str(address))
    return local, reach


def _covers(own: Address, host: str) -> bool:
    """Whether a listener at one address is one at another, too."""
    return own.host == host or _is_everywhere(own.host)


def _is_everywhere(host: str) -> bool:
    """Whether a listener there is one at every address."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
