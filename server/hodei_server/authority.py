"""The certificate authority of the workers' listener, for where nobody has given one.

It vouches for one certificate, the listener's, and only workers trust it: each is handed it together with its one-time
token. Both live under the data folder (`tls/`), keys readable by the server's user alone.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: An authority outlives every worker that was handed it; one with less than the second left is made anew at a start.
AUTHORITY_LIFE = dt.timedelta(days=3650)
AUTHORITY_LEFT = dt.timedelta(days=365)
#: A certificate with less than the second left is made anew, at a start or at a handshake.
CERTIFICATE_LIFE = dt.timedelta(days=90)
CERTIFICATE_LEFT = dt.timedelta(days=30)
#: How far a worker's clock may be behind the server's.
CLOCK_TOLERANCE = dt.timedelta(hours=1)


class WorkerAuthority:
    """Makes, keeps and renews the authority and the listener's certificate.

    :param folder: where both are kept.
    :param hosts: the names and addresses that workers connect to.
    :param now: the time, in UTC.
    """

    def __init__(
        self, folder: Path, hosts: Sequence[str], *, now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    ) -> None:
        self._folder = folder
        self._hosts = sorted({*hosts, "localhost", "127.0.0.1", "::1"})
        self._now = now
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._key, self._authority = self._open_authority()
        self._pair, self._expires = self._open_certificate()

    @property
    def ca_pem(self) -> bytes:
        """What workers are handed to trust."""
        return self._authority.public_bytes(serialization.Encoding.PEM)

    def credentials(self) -> grpc.ServerCredentials:
        """Return what the listener shows; a certificate that is about to expire is renewed at the next handshake."""
        return grpc.dynamic_ssl_server_credentials(self._configuration(), self._renewed)  # type: ignore[arg-type]  # None says that nothing has changed

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([self._pair])

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        if self._now() < self._expires - CERTIFICATE_LEFT:
            return None
        self._pair, self._expires = self._make_certificate()
        return self._configuration()

    def _open_authority(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        try:
            key = serialization.load_pem_private_key((self._folder / "ca.key").read_bytes(), None)
            authority = x509.load_pem_x509_certificate((self._folder / "ca.pem").read_bytes())
        except (OSError, ValueError):
            return self._make_authority()
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != authority.public_key():
            return self._make_authority()
        if authority.not_valid_after_utc - self._now() < AUTHORITY_LEFT:
            return self._make_authority()
        return key, authority

    def _make_authority(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key, now = ec.generate_private_key(ec.SECP256R1()), self._now()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Hodei workers' authority")])
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        authority = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_TOLERANCE)
            .not_valid_after(now + AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        self._write("ca.key", _key_pem(key))
        self._write("ca.pem", authority.public_bytes(serialization.Encoding.PEM))
        return key, authority

    def _open_certificate(self) -> tuple[tuple[bytes, bytes], dt.datetime]:
        try:
            key_pem = (self._folder / "server.key").read_bytes()
            pem = (self._folder / "server.pem").read_bytes()
            key = serialization.load_pem_private_key(key_pem, None)
            certificate = x509.load_pem_x509_certificate(pem)
            certificate.verify_directly_issued_by(self._authority)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except Exception:  # noqa: BLE001 - whatever is wrong with it, a new one is right
            return self._make_certificate()
        left = certificate.not_valid_after_utc - self._now()
        if left < CERTIFICATE_LEFT or set(names) != set(self._names()) or key.public_key() != certificate.public_key():
            return self._make_certificate()
        return (key_pem, pem), certificate.not_valid_after_utc

    def _make_certificate(self) -> tuple[tuple[bytes, bytes], dt.datetime]:
        key, now = ec.generate_private_key(ec.SECP256R1()), self._now()
        expires = now + CERTIFICATE_LIFE
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Hodei workers' listener")]))
            .issuer_name(self._authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_TOLERANCE)
            .not_valid_after(expires)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(self._names()), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = _key_pem(key), certificate.public_bytes(serialization.Encoding.PEM)
        self._write("server.key", pair[0])
        self._write("server.pem", pair[1])
        return pair, expires

    def _names(self) -> list[x509.GeneralName]:
        names: list[x509.GeneralName] = []
        for host in self._hosts:
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        return names

    def _write(self, name: str, data: bytes) -> None:
        """Write a file that only this user can read, whole or not at all."""
        unfinished = self._folder / f"{name}.new"
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self._folder / name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
