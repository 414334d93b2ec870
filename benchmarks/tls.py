"""The certificate of the TLS upstream: self-signed, for 127.0.0.1, made once and kept in the scratch folder."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.machine import SCRATCH

PORT = 23143
VALID_DAYS = 3650


@dataclass(frozen=True)
class Certificate:
    """Where certificate and key are, in PEM."""

    path: Path
    key_path: Path


def certificate() -> Certificate:
    """The certificate, made when it is missing."""
    folder = SCRATCH / "tls"
    kept = Certificate(folder / "certificate.pem", folder / "key.pem")
    if not kept.path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(kept)
    return kept


def _make(kept: Certificate) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    address = ipaddress.ip_address("127.0.0.1")
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(address)]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    kept.key_path.write_bytes(key.private_bytes(encoding, form, plain))
    kept.path.write_bytes(made.public_bytes(encoding))
