"""The filters that a request passes, in their order. Each one's configuration is a file of its own, which Envoy takes
anew when it is replaced, without closing a connection.

    jwt      the key: signature, expiry, issuer           401
    revoked  keys that are not taken any more             403
    rate     the tenant's requests each second            429
    gate     what may be asked, and of which version      400 403 404 413 415   (gate/*.lua)
    quota    what is left of the tenant's day             429
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from importlib import resources
from typing import Any

from modelport.gateway.gate_data import GateData
from modelport.gateway.keys.keyring import Limits
from modelport.gateway.lua import table
from modelport.gateway.quota import Left

Config = dict[str, Any]

TYPE = "type.googleapis.com/"
FILTERS = "envoy.extensions.filters.http."
NAMES = ("jwt", "revoked", "rate", "gate", "quota")
GATE = ("base", "asked", "json", "checks", "request", "answer")  # each uses only what stands before it
TYPES = {
    "jwt": f"{FILTERS}jwt_authn.v3.JwtAuthentication",
    "revoked": f"{FILTERS}lua.v3.Lua",
    "rate": f"{FILTERS}local_ratelimit.v3.LocalRateLimit",
    "gate": f"{FILTERS}lua.v3.Lua",
    "quota": f"{FILTERS}local_ratelimit.v3.LocalRateLimit",
}
CLAIMS = ("envoy.filters.http.jwt_authn", "claims")
ISSUER = "modelport"
PASS = "x-modelport-pass"  # noqa: S105
QUOTA = "x-modelport-quota"
RATE = "x-modelport-rate"
_NEVER_S = 10 * 365 * 86400  # a bucket that is not filled again
_BEARER = "(?i:bearer) +[A-Za-z0-9._-]+"  # Envoy itself finds its word anywhere, in these letters alone
_NOBODY = "nobody"  # issues no keys
_CACHED = 4096  # keys whose signature is not checked again


def jwt(jwks: Mapping[str, Any]) -> Config:
    """Takes a key, and leaves its claims as metadata; the key itself goes no further."""
    provider = {
        "issuer": ISSUER,
        "audiences": [ISSUER],
        "local_jwks": {"inline_string": json.dumps(jwks)},
        "payload_in_metadata": CLAIMS[1],
        "jwt_cache_config": {"jwt_cache_size": _CACHED},
        "from_headers": [{"name": "authorization", "value_prefix": " "}],  # what is before it, the rules look at
        "clock_skew_seconds": 5,
        "require_expiration": True,
    }
    written = {"name": "authorization", "string_match": {"safe_regex": {"regex": _BEARER}}}
    taken = {"match": {"prefix": "/", "headers": [written]}, "requires": {"provider_name": ISSUER}}
    nobodys = {"match": {"prefix": "/"}, "requires": {"provider_name": _NOBODY}}
    nobody = {"issuer": _NOBODY, "local_jwks": provider["local_jwks"], "from_headers": [{"name": "x-modelport-nobody"}]}
    return _typed("jwt", {"providers": {ISSUER: provider, _NOBODY: nobody}, "rules": [taken, nobodys]})


def revoked(keys: Collection[str]) -> Config:
    """Refuses keys before they spend what their tenant may, as callers with its other keys then could not.

    Args:
        keys: Their ids.
    """
    source = resources.files(__package__).joinpath("gate").joinpath("revoked.lua").read_text()
    known = table("REVOKED", {"keys": dict.fromkeys(sorted(keys), True)}) + "\n" + source
    return _typed("revoked", {"default_source_code": {"inline_string": known if keys else "-- no key is revoked"}})


def rate(tenants: Mapping[str, Limits]) -> Config:
    """A bucket of tokens for each tenant that has a rate."""
    limited = {name: one for name, one in tenants.items() if one.rate_per_s}
    buckets = {name: _rate_bucket(one) for name, one in limited.items()}
    return _limit("rate", buckets, [_claim("sub", "tenant")], {"retry-after": "1", RATE: "1"})


def quota(left: Left) -> Config:
    """A bucket for each tenant with a quota, with what is left of the day in it; it is not filled again.

    A request takes two tokens, and one is always too much: so there is a bucket, too, from which nobody gets any.
    """
    kind = {
        "metadata": {
            "descriptor_key": "kind",
            "source": "DYNAMIC",
            "metadata_key": {"key": "modelport", "path": [{"key": "kind"}]},
        }
    }
    buckets = {
        name: {"max_tokens": 2 * count + 1, "tokens_per_fill": 1, "fill_interval": f"{_NEVER_S}s"}
        for name, count in left.tenants.items()
    }
    config = _limit("quota", buckets, [_claim("sub", "tenant"), kind], {QUOTA: "1"})
    config["rate_limits"][0]["hits_addend"] = {"number": 2}
    config["token_bucket"]["max_tokens"] += left.round  # so that Envoy takes new buckets also where they look the same
    return config


def gate(data: GateData, secret: str) -> Config:
    """The checks of gate/*.lua, with what they compare with."""
    known = f'{data.lua}DATA.secret = "{secret}"\n'
    return _typed("gate", {"default_source_code": {"inline_string": known + gate_source()}})


def gate_source() -> str:
    """The text of gate/*.lua: one program, in parts for its readers."""
    folder = resources.files(__package__).joinpath("gate")
    return "\n".join(folder.joinpath(f"{part}.lua").read_text() for part in GATE)


def _typed(name: str, content: Config) -> Config:
    return {"@type": TYPE + TYPES[name], **content}


def _claim(name: str, key: str) -> Config:
    path = [{"key": CLAIMS[1]}, {"key": name}]
    return {
        "metadata": {
            "descriptor_key": key,
            "source": "DYNAMIC",
            "metadata_key": {"key": CLAIMS[0], "path": path},
        }
    }


def _rate_bucket(limits: Limits) -> Config:
    rate_per_s = limits.rate_per_s or 0.0
    tokens = max(1, round(rate_per_s))  # whole ones, in as many seconds as that takes
    return {
        "max_tokens": limits.burst or tokens,
        "tokens_per_fill": tokens,
        "fill_interval": f"{tokens / rate_per_s:.9f}s",
    }


def _limit(name: str, buckets: Mapping[str, Config], actions: list[Config], headers: Mapping[str, str]) -> Config:
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    fixed = [{"key": "kind", "value": "infer"}] if name == "quota" else []
    descriptors = [
        {"entries": [{"key": "tenant", "value": tenant}, *fixed], "token_bucket": bucket}
        for tenant, bucket in sorted(buckets.items())
    ]
    plenty = {"max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000, "fill_interval": "1s"}
    content: Config = {
        "stat_prefix": name,
        "token_bucket": plenty,
        "filter_enabled": always,
        "filter_enforced": always,
        "rate_limits": [{"actions": actions}],
        "descriptors": descriptors,
        "response_headers_to_add": [{"header": {"key": key, "value": value}} for key, value in headers.items()],
        "rate_limited_as_resource_exhausted": True,
        "always_consume_default_token_bucket": False,
    }
    return _typed(name, content)
