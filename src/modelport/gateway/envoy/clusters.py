"""What is behind the gateway: the Triton servers, over HTTP and over gRPC, and the receiver of captured pairs."""

from __future__ import annotations

from pathlib import Path

from modelport.gateway.envoy.filters import TYPE, Config
from modelport.gateway.envoy.listener import GRPC, HTTP, followed
from modelport.gateway.settings import Settings, Upstream

CAPTURE = "capture"
CAPTURE_SOCKET = "capture.sock"
EJECTED_S = 5


def clusters(settings: Settings, folder: Path) -> list[Config]:
    """All clusters; where the servers are stands in files that Envoy follows."""
    return [_triton(HTTP, settings, folder), _triton(GRPC, settings, folder), _capture(folder.parent)]


def endpoints(cluster: str, servers: tuple[Upstream, ...]) -> Config:
    """Where the servers of a cluster are."""
    places = [(one.host, one.grpc_port if cluster == GRPC else one.http_port) for one in servers]
    content = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}} for host, port in places
    ]
    kind = f"{TYPE}envoy.config.endpoint.v3.ClusterLoadAssignment"
    return {"@type": kind, "cluster_name": cluster, "endpoints": [{"lb_endpoints": content}]}


def _triton(name: str, settings: Settings, folder: Path) -> Config:
    most = settings.concurrency
    limits = {"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": most}
    protocol: Config = {"http2_protocol_options": {}} if name == GRPC else {"http_protocol_options": {}}
    options = {
        "@type": f"{TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": protocol,
        "common_http_protocol_options": {"idle_timeout": "60s"},
    }
    cluster: Config = {
        "name": name,
        "connect_timeout": "1s",
        "type": "EDS",
        "eds_cluster_config": {"eds_config": followed(folder, name)},
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [limits]},
        "per_connection_buffer_limit_bytes": settings.body_bytes,
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    }
    if len(settings.upstreams) > 1:
        cluster["outlier_detection"] = {
            "consecutive_gateway_failure": 3,
            "enforcing_consecutive_gateway_failure": 100,
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 2,
            "interval": "1s",
            "base_ejection_time": f"{EJECTED_S}s",
            "max_ejection_percent": 100 - 100 // len(settings.upstreams),
        }
        cluster["common_lb_config"] = {"healthy_panic_threshold": {"value": 0.0}}
    return cluster


def _capture(folder: Path) -> Config:
    socket = {"endpoint": {"address": {"pipe": {"path": str(folder / CAPTURE_SOCKET)}}}}
    return {
        "name": CAPTURE,
        "connect_timeout": "1s",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [{"max_connections": 4, "max_pending_requests": 64, "max_requests": 64}]},
        "load_assignment": {"cluster_name": CAPTURE, "endpoints": [{"lb_endpoints": [socket]}]},
    }
