"""Settings of the listeners: where they open, and with which certificates."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hodei.address import Address, parse_address
from hodei.transport import MAX_MESSAGE_BYTES
from hodei_server.settings.values import PREFIX, OptionalPath, SettingsGroup, Size


class ListenerGroup(SettingsGroup):
    """Where the server listens."""

    title: ClassVar[str] = "Listeners and their certificates"

    listen: str = Field("127.0.0.1:50051", description="Where clients connect; `https://` wants `tls_cert`.")
    worker_listen: str = Field(
        "127.0.0.1:50052", description="Where workers connect; nothing else is served there. Port 0 takes any."
    )
    worker_address: str = Field(
        "", description="The worker listener as workers see it; from `worker_listen` when empty."
    )
    health_listen: str = Field(
        "", description="Where `grpc.health.v1` alone is answered, without TLS, for probes; nowhere when empty."
    )
    metrics_listen: str = Field(
        "", description="Where `/metrics` is served as Prometheus' text, without TLS; nowhere when empty."
    )
    tls_cert: OptionalPath = Field(None, description="Certificate of the clients' listener, PEM; with `tls_key`.")
    tls_key: OptionalPath = Field(None, description="Its key, PEM.")
    tls_client_ca: OptionalPath = Field(None, description="Clients must show a certificate of this authority, PEM.")
    worker_tls_cert: OptionalPath = Field(None, description="Certificate of the workers' listener, PEM.")
    worker_tls_key: OptionalPath = Field(None, description="Its key, PEM.")
    worker_tls_ca: OptionalPath = Field(None, description="The authority that workers trust, given to them, PEM.")
    allow_plaintext: bool = Field(
        default=False, description="Listen without TLS where other machines can connect (a trusted network)."
    )
    max_calls: int = Field(
        2000, ge=1, description="Calls at once that are no streams, of clients and of workers each; more try again."
    )
    max_call_bytes: Size = Field(
        64 << 20, ge=MAX_MESSAGE_BYTES, description="Bytes of the requests of all calls and streams at once; the same."
    )

    @field_validator("listen", "worker_listen", "health_listen", "metrics_listen")
    @classmethod
    def _check_address(cls, value: str, info: ValidationInfo) -> str:
        if value and parse_address(value).tls and info.field_name == "metrics_listen":
            raise ValueError("it is served without TLS: write host:port")
        return value

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        for cert, key in (("tls_cert", "tls_key"), ("worker_tls_cert", "worker_tls_key")):
            if bool(getattr(self, cert)) != bool(getattr(self, key)):
                raise ValueError(f"{PREFIX}{cert.upper()} and {PREFIX}{key.upper()} go together")
        if self.tls_client_ca and not self.tls_cert:
            raise ValueError(f"{PREFIX}TLS_CLIENT_CA needs {PREFIX}TLS_CERT and {PREFIX}TLS_KEY")
        return self

    @property
    def address(self) -> Address:
        """Where clients connect."""
        return parse_address(self.listen)
