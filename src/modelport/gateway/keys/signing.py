"""Signing keys (ECDSA on P-256) and the tokens they sign: JSON Web Tokens, ES256 (RFC 7518).

The private key is `<state>/gateway/keys/<kid>.pem`, readable by its owner alone. There is one: a key that was replaced
only has to be recognised, for which its public half in the register does.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import cast

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from modelport.errors import EnvironmentUnfitError
from modelport.gateway import private
from modelport.gateway.keys.values import Key, SigningKey

ISSUER = AUDIENCE = "modelport"


def make(folder: Path, now: int) -> SigningKey:
    """A new signing key, its private half in a file of its own."""
    secret = ec.generate_private_key(ec.SECP256R1())
    jwk = cast(dict[str, str], ECAlgorithm.to_jwk(secret.public_key(), as_dict=True))
    jwk = {name: jwk[name] for name in ("kty", "crv", "x", "y")}
    kid = hashlib.sha256(f"{jwk['x']}.{jwk['y']}".encode()).hexdigest()[:16]
    pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    private.write(folder / f"{kid}.pem", pem)
    return SigningKey(kid=kid, jwk={**jwk, "kid": kid, "alg": "ES256", "use": "sig"}, created_at=now)


def nobodys() -> dict[str, str]:
    """A public key whose private half is thrown away: what is accepted where no key was made yet, which is nothing."""
    jwk = cast(dict[str, str], ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True))
    return {**{name: jwk[name] for name in ("kty", "crv", "x", "y")}, "kid": "nobody", "alg": "ES256", "use": "sig"}


def forget_others(folder: Path, kid: str) -> None:
    """Remove the private halves of all other keys: of those that were replaced, and of commands that were killed."""
    for path in folder.glob("*.pem"):
        if path.stem != kid:
            path.unlink(missing_ok=True)


def token(folder: Path, signing: SigningKey, key: Key) -> str:
    """The token for a key.

    Args:
        folder: Where the private keys are.
        signing: The key that signs.
        key: What the token says.

    Raises:
        EnvironmentUnfitError: The private key is missing, damaged, another one, or readable by others.
    """
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": key.tenant,
        "jti": key.id,
        "models": list(key.models),
        "iat": key.issued_at,
        "exp": key.expires_at,
    }
    secret = _secret(folder / f"{signing.kid}.pem", signing)
    return jwt.encode(claims, secret, algorithm="ES256", headers={"kid": signing.kid})


def _secret(path: Path, signing: SigningKey) -> ec.EllipticCurvePrivateKey:
    """The private half of a signing key, after a look at who else may read it."""
    try:
        mode = path.stat().st_mode & 0o777
        secret = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise _unusable(path, f"{type(exc).__name__}: {exc}", "'modelport keys rotate' makes a new one") from exc
    if mode & 0o077:
        raise _unusable(
            path,
            f"others may read it (mode {mode:03o}), and whoever has it can make keys",
            "if anybody may have read it, run 'modelport keys rotate --overlap 0 --force'; else 'chmod 600' the file",
        )
    public = secret.public_key()
    if not isinstance(secret, ec.EllipticCurvePrivateKey) or not isinstance(public, ec.EllipticCurvePublicKey):
        raise _unusable(path, "it is no key of an elliptic curve", "'modelport keys rotate' makes a new one")
    found = cast(dict[str, str], ECAlgorithm.to_jwk(public, as_dict=True))
    if any(found[name] != signing.jwk[name] for name in ("crv", "x", "y")):
        raise _unusable(path, "it is another key than the register has", "'modelport keys rotate' makes a new one")
    return secret


def _unusable(path: Path, why: str, fix: str) -> EnvironmentUnfitError:
    return EnvironmentUnfitError(f"the signing key {path} cannot be used", why=why, fix=fix)
