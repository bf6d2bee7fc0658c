"""Certificates for servers and clients of tests: an authority, and what it signs, as PEM files of a folder.

Before it: nothing. After it: brokers with TLS, and whoever connects to them. Keys are made anew each time, and none is kept.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

VALID = timedelta(days=2)
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, which stands in PKCS #8."""

    certificate: Path
    key: Path
    encrypted_key: Path
    """The same key behind the authority's `key_password`."""
    both: Path
    """Key and certificate in one file, as Kafka's brokers want them."""


class Authority:
    """Signs certificates. Those of two with one name have nothing in common but that."""

    def __init__(self, folder: Path, name: str, *, key_password: str) -> None:
        self._folder = folder
        self._password = BestAvailableEncryption(key_password.encode())
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = self._builder(self._name, self._key.public_key(), expired=False)
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = folder / "authority.pem"
        folder.mkdir()
        self.certificate.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def certify(self, name: str, *, host: str = LOOPBACK, expired: bool = False) -> Identity:
        """A certificate of `host`, a name or an address, in files that begin with `name`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key.public_key(), expired=expired)
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        plain = _pem_of(key, NoEncryption())
        return Identity(
            certificate=self._write(f"{name}.pem", certificate),
            key=self._write(f"{name}.key", plain),
            encrypted_key=self._write(f"{name}.encrypted.key", _pem_of(key, self._password)),
            both=self._write(f"{name}.both.pem", plain + certificate),
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, expired: bool) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        until = now - timedelta(hours=1) if expired else now + VALID
        builder = x509.CertificateBuilder().issuer_name(self._name).subject_name(subject).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - VALID).not_valid_after(until)

    def _write(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(content)
        return path


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem_of(key: ec.EllipticCurvePrivateKey, encryption: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
