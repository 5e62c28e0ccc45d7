"""A gRPC server on one address, made from settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from hodei.address import Address
from hodei.transport import SERVER_OPTIONS
from hodei_server.rpc.calls import Calls
from hodei_server.rpc.interceptors import CallInterceptor


class ListenerError(Exception):
    """A listener can't be opened as the settings say."""


def read_pem(variable: str, file: Path) -> bytes:
    """Return what a file holds that a setting names.

    :raise ListenerError: it can't be read; names the setting.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ListenerError(f"{variable}: {file} can't be read: {error.strerror}") from None


class Credentials(Protocol):
    """What a listener shows to who connects."""

    def credentials(self) -> grpc.ServerCredentials | None:
        """Return it; None for plain text."""


@dataclasses.dataclass(frozen=True, slots=True)
class ListenerTls:
    """Files in PEM form. With a client CA, clients must show a certificate of it.

    :param prefix: of the settings that name them, for errors.
    """

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    prefix: str = "HODEI_"

    def credentials(self) -> grpc.ServerCredentials | None:
        """Read the files; None where there is no certificate.

        :raise ListenerError: one can't be read.
        """
        if self.certificate is None or self.key is None:
            return None
        key = read_pem(f"{self.prefix}TLS_KEY", self.key)
        certificate = read_pem(f"{self.prefix}TLS_CERT", self.certificate)
        authority = read_pem(f"{self.prefix}TLS_CLIENT_CA", self.client_ca) if self.client_ca else None
        return grpc.ssl_server_credentials(
            [(key, certificate)], root_certificates=authority, require_client_auth=authority is not None
        )


class Listener:
    """One address and what is served there.

    :param health_checks: with health of each service, and of all of them.
    :param reflected: says what is served.
    :param options: gRPC's.
    :param calls: counts its calls.
    :param most: calls and streams, where gRPC itself refuses further ones before it has read their requests.
    """

    def __init__(
        self,
        services: Sequence[str],
        *,
        health_checks: bool = False,
        reflected: bool = False,
        options: Sequence[tuple[str, int]] = SERVER_OPTIONS,
        calls: Calls | None = None,
        most: int | None = None,
    ) -> None:
        self.server = aio.server(interceptors=[CallInterceptor(calls)], options=options, maximum_concurrent_rpcs=most)
        self._services = ("", *services)
        self._health: health.aio.HealthServicer | None = None
        if health_checks:
            self._health = health.aio.HealthServicer()
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        if reflected:
            names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self.server)

    def bind(self, address: Address, tls: Credentials, *, variable: str, allow_plaintext: bool) -> Address:
        """Take the address; return it with the port that was given where 0 was asked for.

        :param variable: names the setting in errors.
        :raise ListenerError: it is in use, or would be plain text to other machines.
        """
        credentials = tls.credentials()
        if address.tls and credentials is None:
            raise ListenerError(f"{variable}: {address} wants TLS, but there is no certificate")
        if credentials is None and not address.is_loopback and not allow_plaintext:
            raise ListenerError(
                f"{variable}: {address} can be reached from other machines and would be plain text: "
                "set a certificate and key, or HODEI_ALLOW_PLAINTEXT=true"
            )
        try:
            if credentials is not None:
                port = self.server.add_secure_port(address.target, credentials)
            else:
                port = self.server.add_insecure_port(address.target)
        except RuntimeError:
            port = 0
        if not port:
            why = "is another server there?"
            if credentials is not None:
                why = "is another server there, or can its certificate, key or client CA not be used?"
            raise ListenerError(f"{variable}: {address} can't be listened on: {why}")
        return Address(address.host, port, credentials is not None)

    async def set_serving(self, *, serving: bool) -> None:
        """Tell health checks whether calls are welcome."""
        for service in self._services:
            await self.set_health(service, serving=serving)

    async def set_health(self, name: str, *, serving: bool) -> None:
        """Tell health checks how one thing is, a service or another part."""
        if self._health is not None:
            states = health_pb2.HealthCheckResponse
            await self._health.set(name, states.SERVING if serving else states.NOT_SERVING)
