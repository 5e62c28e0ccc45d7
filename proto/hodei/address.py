"""Addresses as people write them, wherever one is read: ``host:port``, ``http://host:port`` or ``https://host:port``."""

from __future__ import annotations

import dataclasses
import ipaddress


class AddressError(ValueError):
    """An address can't be read; the message says what is wrong with it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens.

    :param tls: True for ``https://``, False for ``http://``, None where the address does not say.
    """

    host: str
    port: int
    tls: bool | None = None

    @property
    def target(self) -> str:
        """The address as gRPC takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        scheme = {True: "https://", False: "http://", None: ""}[self.tls]
        return scheme + self.target


def parse_address(text: str, *, default_port: int | None = None) -> Address:
    """Read an address.

    :param default_port: for an address without a port; None refuses it.
    :raise AddressError: what is wrong with `text`.
    """
    rest, tls = text.strip(), None
    scheme, separator, tail = rest.partition("://")
    if separator:
        if scheme not in {"http", "https"}:
            raise AddressError(
                f"{text!r}: an address begins with http://, https:// or the host's name, not {scheme}://"
            )
        rest, tls = tail.rstrip("/"), scheme == "https"
    if rest.startswith("["):
        host, closed, port_text = rest[1:].partition("]")
        whole = bool(closed) and port_text[:1] in {"", ":"}
        port_text = port_text[1:]
    else:
        host, _, port_text = rest.rpartition(":") if ":" in rest else (rest, "", "")
        whole = ":" not in host
    if not whole or not host or any(c in "/@[]" or c.isspace() or not c.isprintable() for c in host):
        raise AddressError(f"{text!r} is not an address: write host:port, or [address]:port for IPv6")
    if not port_text and default_port is not None:
        return Address(host, default_port, tls)
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and int(port_text) <= 65535):
        raise AddressError(f"{text!r} has no port from 0 to 65535: write host:port")
    return Address(host, int(port_text), tls)
