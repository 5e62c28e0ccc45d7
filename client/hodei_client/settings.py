"""How to reach a server, read once from the environment."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from hodei.address import Address, parse_address
from hodei.transport import TlsFiles

DEFAULT_SERVER = "127.0.0.1:50051"
DEFAULT_PORT = 50051


class ClientSettingsError(ValueError):
    """A variable can't be read; the message names it."""


@dataclasses.dataclass(frozen=True, slots=True)
class ClientSettings:
    """How to reach a server.

    :param patience: seconds that follows and watches go on trying after their connection is lost.
    """

    server: Address
    tls: TlsFiles = dataclasses.field(default_factory=TlsFiles)
    allow_plaintext: bool = False
    tenant: str = ""
    patience: float = 300.0


def read_settings(server: str = "", *, tls: TlsFiles | None = None) -> ClientSettings:
    """Read HODEI_SERVER, HODEI_TLS_CA, HODEI_TLS_CERT, HODEI_TLS_KEY, HODEI_ALLOW_PLAINTEXT and HODEI_TENANT.

    :param server: wins over HODEI_SERVER, as the files of `tls` do over theirs.
    :raise hodei.address.AddressError: the address can't be read.
    :raise ClientSettingsError: HODEI_ALLOW_PLAINTEXT is neither true nor false.
    """

    def path(name: str) -> Path | None:
        return Path(os.environ[name]) if os.environ.get(name) else None

    given = tls or TlsFiles()
    files = TlsFiles(
        given.ca or path("HODEI_TLS_CA"),
        given.certificate or path("HODEI_TLS_CERT"),
        given.key or path("HODEI_TLS_KEY"),
    )
    address = server or os.environ.get("HODEI_SERVER") or DEFAULT_SERVER
    return ClientSettings(
        server=parse_address(address, default_port=DEFAULT_PORT),
        tls=files,
        allow_plaintext=_read_switch("HODEI_ALLOW_PLAINTEXT"),
        tenant=os.environ.get("HODEI_TENANT", ""),
    )


def _read_switch(name: str) -> bool:
    """Read what is true or false, in the words that the server takes, too."""
    value = os.environ.get(name, "")
    if value.lower() in {"1", "true", "t", "yes", "y", "on"}:
        return True
    if value.lower() in {"", "0", "false", "f", "no", "n", "off"}:
        return False
    raise ClientSettingsError(f"{name}: expected true or false, not {value!r}")
