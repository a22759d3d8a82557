"""What is behind the gateway: the Triton servers, turnstiles of tenants, and the receiver of captured pairs.

Copies for a shadow go to the same servers through clusters of their own with few places: a shadow that hangs takes none
of the callers'.

A turnstile is a cluster that leads back into Envoy, to a listener in its own memory, and from there to the servers: the
cluster lets so many requests through at a time as its tenant may have on their way, over HTTP and gRPC together.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from modelport.gateway.envoy import tracing
from modelport.gateway.envoy.filters import TYPE, Config
from modelport.gateway.envoy.listener import GRPC, HTTP, TURNSTILES
from modelport.gateway.gate_data import turnstile
from modelport.gateway.golden import Golden
from modelport.gateway.settings import Settings, Upstream

CAPTURE = "capture"
CAPTURE_SOCKET = "capture.sock"
CHECK_S = 1  # between two health checks of a server
CHECKED_WITHIN_S = 3
FAILED_CHECKS = 2  # until a server gets no more requests
EJECTED_S = 5
COPIES = 16  # for shadows, on their way at a time over one protocol; there are no others meanwhile
SHADOW = {HTTP: "shadow_http", GRPC: "shadow_grpc"}
_PLENTY = 1_000_000
_WELL = [{"start": one, "end": one + 1} for one in (200, 429, 503)]
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def followed(settings: Settings, golden: Golden | None, turnstiles: Mapping[str, int]) -> list[Config]:
    """The clusters that change while Envoy runs; requests on their way through one that is replaced are answered.

    Args:
        settings: Servers and limits.
        golden: What health checks ask of several servers; None where nothing is known.
        turnstiles: Tenant to the requests that it may have on their way.
    """
    servers = [_triton(name, settings, golden) for name in (HTTP, GRPC)]
    shadows = [{**_servers(name, settings, COPIES), "name": shadow} for name, shadow in SHADOW.items()]
    return [*servers, *shadows, *(_turnstile(tenant, most) for tenant, most in sorted(turnstiles.items()))]


def fixed() -> list[Config]:
    """The clusters that stay. A socket is found from Envoy's working folder: its name must be short."""
    socket = {"endpoint": {"address": {"pipe": {"path": CAPTURE_SOCKET}}}}
    limits = {"max_connections": 4, "max_pending_requests": 64, "max_requests": 64}
    capture = {
        "name": CAPTURE,
        "connect_timeout": "1s",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": CAPTURE, "endpoints": [{"lb_endpoints": [socket]}]},
    }
    return [capture]


def _triton(name: str, settings: Settings, golden: Golden | None) -> Config:
    cluster = _servers(name, settings, settings.concurrency)
    if len(settings.upstreams) > 1:
        cluster.update(_watched(len(settings.upstreams), golden))
    return cluster


def _servers(name: str, settings: Settings, most: int) -> Config:
    """Requests beyond `most` are refused at once, never kept waiting: a connection can always be had, as there may be
    more of them than requests; each of Envoy's threads has its own."""
    limits = {
        "max_requests": most,
        "max_pending_requests": most,
        "max_retries": most,
        "max_connections": most * (settings.workers + 1),
    }
    protocol: Config = {"http2_protocol_options": {}} if name == GRPC else {"http_protocol_options": {}}
    return {
        "name": name,
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [limits]},
        "per_connection_buffer_limit_bytes": settings.body_bytes,
        **_spoken(
            {
                "explicit_http_config": protocol,
                "common_http_protocol_options": {"idle_timeout": "60s"},
                **tracing.upstream(settings.otlp),
            }
        ),
        **_places(name, settings.upstreams),
    }


def _places(name: str, servers: tuple[Upstream, ...]) -> Config:
    """Where the servers are; their health is asked over HTTP, for both protocols."""
    content = []
    for one in servers:
        port = one.grpc_port if name == GRPC else one.http_port
        endpoint = {
            "address": {"socket_address": {"address": one.host, "port_value": port}},
            "health_check_config": {"port_value": one.http_port},
        }
        content.append({"endpoint": endpoint})
    return {
        "type": "STATIC" if all(_is_address(one.host) for one in servers) else "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": content}]},
    }


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _watched(servers: int, golden: Golden | None) -> Config:
    """Of several servers, those that fail are left out; where all fail, none is: the reason may be the model asked.

    Who refuses because it has too much to do is not ill: to leave it out would bring the others down.
    """
    ask: Config = {"path": "/v2/health/live"}
    if golden is not None:
        typed = {"header": {"key": "content-type", "value": "application/json"}}
        ask = {"method": "POST", "path": golden.path, "send": {"text": golden.body.encode().hex()}}
        ask["request_headers_to_add"] = [typed]
    return {
        "health_checks": [
            {
                "timeout": f"{CHECKED_WITHIN_S}s",
                "interval": f"{CHECK_S}s",
                "no_traffic_interval": f"{CHECK_S}s",
                "unhealthy_threshold": FAILED_CHECKS,
                "healthy_threshold": 1,
                "http_health_check": {**ask, "expected_statuses": _WELL},
            }
        ],
        "outlier_detection": {
            "consecutive_gateway_failure": 3,
            "enforcing_consecutive_gateway_failure": 100,
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 2,
            "interval": "1s",
            "base_ejection_time": f"{EJECTED_S}s",
            "max_ejection_time": f"{4 * EJECTED_S}s",
            "max_ejection_percent": 100 - 100 // servers,
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": 1.0}},
    }


def _turnstile(tenant: str, most: int) -> Config:
    limits = {
        "max_requests": most,
        "max_pending_requests": _PLENTY,
        "max_connections": _PLENTY,
        "max_retries": 0,
    }
    inside = {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": TURNSTILES}}}}
    either: Config = {"http_protocol_options": {}, "http2_protocol_options": {}}
    return {
        "name": turnstile(tenant),
        "connect_timeout": "1s",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [limits]},
        **_spoken({"use_downstream_protocol_config": either}),
        "load_assignment": {"cluster_name": turnstile(tenant), "endpoints": [{"lb_endpoints": [inside]}]},
    }


def _spoken(options: Config) -> Config:
    return {"typed_extension_protocol_options": {_OPTIONS: {"@type": TYPE + _OPTIONS, **options}}}
