"""Certificates for TLS at the gateway: what one is, and the checks of one that is given.

`development_certificate` makes one where none is given.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from modelport.errors import UsageError

WARN_DAYS = 14
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
Moment = datetime.datetime


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate that can be served, and its key.

    Attributes:
        certificate: PEM file with the certificate, and those between it and its authority behind it.
        key: PEM file with its private key.
        ca: PEM file with the authority to trust; None where it is not ours.
        names: Host names and addresses for which it holds.
        expires_at: From when on callers refuse it.
        renewed: Whether it was made just now.
        warnings: What may soon go wrong.
    """

    certificate: Path
    key: Path
    ca: Path | None
    names: tuple[str, ...]
    expires_at: Moment
    renewed: bool = False
    warnings: tuple[str, ...] = ()


def check(certificate: Path, key: Path, *, now: Moment | None = None) -> Certificate:
    """Look at a certificate and its key before they are served.

    Args:
        certificate: PEM file with the server's certificate first.
        key: PEM file with its private key, without a passphrase.
        now: The time; None for the clock's.

    Raises:
        UsageError: A file is missing or damaged, they do not belong together, the certificate has expired or does not
            hold yet, or others may read the key.
    """
    now = now or datetime.datetime.now(datetime.timezone.utc)
    chain, secret = _read_chain(certificate), _read_key(key)
    first = chain[0]
    if public_bytes(first.public_key()) != public_bytes(secret.public_key()):
        raise UsageError(
            f"{key} is not the key of {certificate}",
            why="the certificate is for another public key; perhaps the server's own does not stand first in its file",
            fix="give the two files that were made together, with the server's certificate first",
        )
    _check_kind(key, secret)
    _check_times(certificate, first, now)
    _check_mode(key)
    names, warnings = names_of(first), []
    left = first.not_valid_after_utc - now
    if left < datetime.timedelta(days=WARN_DAYS):
        warnings.append(f"{certificate} expires on {_day(first.not_valid_after_utc)}: callers then refuse it")
    if not names:
        warnings.append(f"{certificate} names no host (subject alternative name): most callers refuse it")
    return Certificate(
        certificate=certificate,
        key=key,
        ca=None,
        names=names,
        expires_at=first.not_valid_after_utc,
        warnings=tuple(warnings),
    )


def _read_chain(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise UsageError(
            f"the certificate {path} cannot be read",
            why=exc.strerror or str(exc) if isinstance(exc, OSError) else "it is no PEM file with a certificate",
            fix="give a file that begins with -----BEGIN CERTIFICATE-----",
        ) from exc


def _read_key(path: Path) -> Any:
    try:
        return serialization.load_pem_private_key(path.read_bytes(), password=None)
    except TypeError as exc:
        raise UsageError(
            f"the key {path} cannot be read",
            why="it is encrypted with a passphrase, for which nobody is there to ask",
            fix=f"write it without one, readable by you alone: (umask 077; openssl pkey -in {path} -out plain.pem)",
        ) from exc
    except (OSError, ValueError, UnsupportedAlgorithm) as exc:
        raise UsageError(
            f"the key {path} cannot be read",
            why=exc.strerror or str(exc) if isinstance(exc, OSError) else "it is no PEM file with a private key",
            fix="give a file that begins with -----BEGIN PRIVATE KEY-----",
        ) from exc


def _check_kind(path: Path, secret: Any) -> None:
    good = isinstance(secret, rsa.RSAPrivateKey) and secret.key_size >= 2048
    good = good or (isinstance(secret, ec.EllipticCurvePrivateKey) and secret.curve.name in _CURVES)
    if not good:
        kind = "Ed25519" if isinstance(secret, ed25519.Ed25519PrivateKey) else type(secret).__name__.lstrip("_")
        raise UsageError(
            f"the key {path} cannot be served",
            why=f"the gateway takes RSA from 2048 bits on and the curves P-256, P-384, P-521; this is {kind}",
            fix="make a certificate for a key of the curve P-256, say",
        )


def _check_times(path: Path, certificate: x509.Certificate, now: Moment) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= ends:
        raise UsageError(
            f"the certificate {path} has expired",
            why=f"it ended on {_day(ends)}, and every caller would refuse it",
            fix="renew it; without a certificate of yours a development certificate is made",
        )
    if now < begins:
        raise UsageError(
            f"the certificate {path} does not hold yet",
            why=f"it begins on {_day(begins)}; this machine's clock says {_day(now)}",
            fix="look at the clock, or wait",
        )


def _check_mode(path: Path) -> None:
    mode = path.stat().st_mode & 0o777
    if mode & 0o007:
        raise UsageError(
            f"others may read the key {path}",
            why=f"its mode is {mode:03o}, and whoever has the key can pass for this server",
            fix=f"chmod 600 {path}; make a new key and certificate where somebody may have read it",
        )


def expires_at(certificate: Path) -> Moment:
    """From when on callers refuse a certificate.

    Raises:
        UsageError: The file is missing or damaged.
    """
    return _read_chain(certificate)[0].not_valid_after_utc


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The host names and addresses for which a certificate holds."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))


def public_bytes(key: Any) -> bytes:
    """A public key as bytes, to compare."""
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _day(at: Moment) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")
