"""What both ends of a connection must agree on: keepalive, message sizes, encryption."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path

import grpc
from grpc import aio

from hodei.address import Address

#: The largest message either side takes. Blocks of a log are at most 1 MiB, so this is far away.
MAX_MESSAGE_BYTES = 4 << 20
#: Where gRPC itself refuses what workers send. Above the limit, so that the server sees a frame that is too large and
#: says why the session ends; what is larger still ends the stream before anyone has seen it.
MAX_FRAME_BYTES = 4 * MAX_MESSAGE_BYTES
#: What a worker may have sent before the server reads on, beside the message that is being read.
WINDOW_BYTES = 512 << 10
#: How often an idle connection is pinged. Under a minute, as load balancers cut what is silent for longer.
KEEPALIVE_SECONDS = 30
KEEPALIVE_TIMEOUT_SECONDS = 20

_SHARED_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    *_SHARED_OPTIONS,
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    # In spite of its name: how long one attempt to connect may take. Distant servers need several round trips.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 5000),
)

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *_SHARED_OPTIONS,
    ("grpc.so_reuseport", 0),
    # A client that pings as CHANNEL_OPTIONS says must never be sent away with "too_many_pings".
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 1000 // 3),
    ("grpc.http2.max_ping_strikes", 0),
)

#: A listener that workers connect to.
WORKER_LISTENER_OPTIONS: tuple[tuple[str, int], ...] = (
    *(option for option in SERVER_OPTIONS if option[0] != "grpc.max_receive_message_length"),
    ("grpc.max_receive_message_length", MAX_FRAME_BYTES),
    # gRPC's own guess grows to megabytes for a worker that sends faster than it is read, and is in no setting's bound.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
)


class PlaintextRefusedError(ValueError):
    """A plain text connection would leave this machine, and no setting allows that."""


@dataclasses.dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files in PEM form.

    :param ca: whom to trust; the system's certificate authorities when absent.
    :param certificate: shown to the other side; with `key`, or neither.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def given(self) -> bool:
        """Whether any file is named, which means that TLS is wanted."""
        return any((self.ca, self.certificate, self.key))

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        :raise OSError: one of them can't be read, or is none.
        """
        read = [path.read_bytes() if path else None for path in (self.ca, self.key, self.certificate)]
        for path, data in zip((self.ca, self.key, self.certificate), read, strict=True):
            if data is not None and b"-----BEGIN" not in data:
                raise OSError(errno.EINVAL, "is not in PEM form", str(path))
        return grpc.ssl_channel_credentials(*read)


def wants_tls(address: Address, tls: TlsFiles, *, allow_plaintext: bool) -> bool:
    """Decide how to reach an address.

    :param allow_plaintext: plain text may leave this machine.
    :raise PlaintextRefusedError: plain text to another machine, not allowed by any setting.
    """
    encrypted = address.tls if address.tls is not None else tls.given
    if not encrypted and not address.is_loopback and not allow_plaintext:
        raise PlaintextRefusedError(
            f"{address} is not on this machine and the connection would not be encrypted: "
            f"use https://{address.target}, or set HODEI_ALLOW_PLAINTEXT=true"
        )
    return encrypted


def open_channel(address: Address, tls: TlsFiles | None = None, *, allow_plaintext: bool = False) -> aio.Channel:
    """Open an asynchronous channel; nothing is sent before its first call.

    :raise PlaintextRefusedError: see `wants_tls`.
    :raise OSError: a file of `tls` can't be read.
    """
    tls = tls or TlsFiles()
    if wants_tls(address, tls, allow_plaintext=allow_plaintext):
        return aio.secure_channel(address.target, tls.channel_credentials(), options=CHANNEL_OPTIONS)
    return aio.insecure_channel(address.target, options=CHANNEL_OPTIONS)
