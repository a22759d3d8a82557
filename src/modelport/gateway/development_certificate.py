"""The development certificate, for a gateway to which none was given: made with a small authority of our own.

`<state>/gateway/tls/` holds `ca.pem` (which a caller trusts: `curl --cacert`, `MODELPORT_CA`), `ca.key`, and the
server's `certificate.pem` and `key.pem`. The authority may vouch for no other host names than this machine's (name
constraints, RFC 5280 4.2.1.10). Addresses cannot be bound in the same way: BoringSSL, which is in gRPC, refuses all
certificates of an authority that binds them.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from modelport.errors import UsageError
from modelport.gateway import private
from modelport.gateway.certificates import Certificate, Moment, names_of, public_bytes
from modelport.gateway.settings import is_loopback

AREA = "tls"
CA_FILE, CA_KEY_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.pem", "ca.key", "certificate.pem", "key.pem"
CA_DAYS = 3650
CERTIFICATE_DAYS = 397  # more than that, some callers refuse
RENEW_DAYS = 90  # before it expires; a service may run for long until it is started again
ALWAYS = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_BACKDATED = datetime.timedelta(hours=1)  # a caller's clock may be behind
Key = ec.EllipticCurvePrivateKey


def ensure_for(repository: Path, address: str) -> Certificate:
    """The development certificate for a gateway that listens on an address. Raises as `ensure`."""
    everywhere = address in ("0.0.0.0", "::")  # noqa: S104
    return ensure(repository, () if everywhere or is_loopback(address) else (address,))


def ensure(repository: Path, names: Sequence[str] = (), *, now: Moment | None = None) -> Certificate:
    """The development certificate: made once, made anew three months before it expires or when a name is missing.

    The authority stays as long as it holds for all names, so that callers need not trust another one.

    Args:
        repository: The model repository.
        names: Host names and addresses beside localhost, 127.0.0.1, ::1 and this machine's name.
        now: The time; None for the clock's.

    Raises:
        UsageError: A name is no host name or address.
        RepositoryLockedError: Another process makes it, and takes a minute for it.
        RepositoryError: The disk refuses.
    """
    now = now or datetime.datetime.now(datetime.timezone.utc)
    wanted = _names(names)
    with private.locked(repository, AREA) as folder:
        authority, renewed = _authority(folder, wanted, now), False
        found = _usable(folder, authority[0], wanted, now)
        if found is None:
            found, renewed = _make_certificate(folder, authority, wanted, now), True
    return Certificate(
        certificate=folder / CERTIFICATE_FILE,
        key=folder / KEY_FILE,
        ca=folder / CA_FILE,
        names=names_of(found),
        expires_at=found.not_valid_after_utc,
        renewed=renewed,
    )


def _authority(folder: Path, names: tuple[str, ...], now: Moment) -> tuple[x509.Certificate, Key]:
    """The authority in the folder, or a new one where that is damaged, ends soon, or does not hold for all names."""
    found, secret = _certificate_in(folder / CA_FILE), _key_in(folder / CA_KEY_FILE)
    if (
        found is not None
        and secret is not None
        and public_bytes(found.public_key()) == public_bytes(secret.public_key())
    ):
        lasts = found.not_valid_after_utc - now > datetime.timedelta(days=CERTIFICATE_DAYS)
        if lasts and found.not_valid_before_utc <= now and set(_host_names(names)) <= set(_permitted(found)):
            return found, secret
    secret = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(**{**_NO_USAGE, "key_cert_sign": True, "crl_sign": True})
    subject = _subject(f"modelport development authority, {socket.gethostname()[:20]}")
    made = (
        _builder(subject, subject, secret, now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.NameConstraints(
                permitted_subtrees=[x509.DNSName(name) for name in _host_names(names)], excluded_subtrees=None
            ),
            critical=True,
        )
        .sign(secret, hashes.SHA256())
    )
    private.write(folder / CA_KEY_FILE, _pem(secret))
    private.write(folder / CA_FILE, made.public_bytes(serialization.Encoding.PEM))
    return made, secret


def _usable(folder: Path, authority: x509.Certificate, names: tuple[str, ...], now: Moment) -> x509.Certificate | None:
    """The server's certificate in the folder; None where it has to be made anew."""
    found, secret = _certificate_in(folder / CERTIFICATE_FILE), _key_in(folder / KEY_FILE)
    if found is None or secret is None or public_bytes(found.public_key()) != public_bytes(secret.public_key()):
        return None
    try:
        found.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return None
    lasts = found.not_valid_after_utc - now > datetime.timedelta(days=RENEW_DAYS)
    return found if lasts and found.not_valid_before_utc <= now and set(names) <= set(names_of(found)) else None


def _make_certificate(
    folder: Path, authority: tuple[x509.Certificate, Key], names: tuple[str, ...], now: Moment
) -> x509.Certificate:
    """A new certificate. The key stays where there is one: whoever reads the two files meanwhile finds a pair."""
    ca, ca_secret = authority
    secret = _key_in(folder / KEY_FILE)
    if secret is None:
        secret = ec.generate_private_key(ec.SECP256R1())
        private.write(folder / KEY_FILE, _pem(secret))
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_secret.public_key())
    made = (
        _builder(_subject("modelport development"), ca.subject, secret, now, CERTIFICATE_DAYS)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{**_NO_USAGE, "digital_signature": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(ca_secret, hashes.SHA256())
    )
    private.write(folder / CERTIFICATE_FILE, made.public_bytes(serialization.Encoding.PEM))
    return made


def _builder(subject: x509.Name, issuer: x509.Name, secret: Key, now: Moment, days: int) -> x509.CertificateBuilder:
    public = secret.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _names(names: Sequence[str]) -> tuple[str, ...]:
    """All names of the certificate, each once; this machine's own is left out where it is no host name."""
    own = socket.gethostname().lower()
    wrong = [name for name in names if not _is_name(name.lower())]
    if wrong:
        raise UsageError(
            f"no certificate can be made for {', '.join(map(repr, wrong))}",
            why="a certificate is for host names and addresses",
            fix="give names such as gateway.example or 192.0.2.7",
        )
    every = [*ALWAYS, *([own] if _is_name(own) else []), *(_as_text(name.lower()) for name in names)]
    return tuple(dict.fromkeys(every))


def _is_name(name: str) -> bool:
    return _address(name) is not None or _HOST.fullmatch(name) is not None


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _as_text(name: str) -> str:
    address = _address(name)
    return name if address is None else str(address)


def _general_name(name: str) -> x509.GeneralName:
    address = _address(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


def _host_names(names: Sequence[str]) -> list[str]:
    return [name for name in names if _address(name) is None]


def _permitted(authority: x509.Certificate) -> tuple[str, ...]:
    """The host names for which an authority may vouch."""
    try:
        trees = authority.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(tree.value) for tree in trees)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(secret: Key) -> bytes:
    return secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate_in(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None


def _key_in(path: Path) -> Key | None:
    """A key of ours; none where others may have read it."""
    try:
        secret = serialization.load_pem_private_key(path.read_bytes(), password=None)
        return secret if isinstance(secret, Key) and not path.stat().st_mode & 0o077 else None
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        return None


_NO_USAGE = dict.fromkeys(
    (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    ),
    False,
)
