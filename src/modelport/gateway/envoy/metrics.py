"""What Prometheus reads of Envoy: its own figures. Counts by tenant and model are made from its access log
(modelport.usage): to count them here as well takes Envoy longer than all else that it does to be watched.

A listener of its own hands out one page of Envoy's administration, `GET /metrics`, and nothing else of it.
"""

from __future__ import annotations

from modelport.gateway.envoy.filters import TYPE, Config
from modelport.gateway.settings import Settings

ADMIN_SOCKET = "admin.sock"
CLUSTER = "admin"
PAGE = "/metrics"
_LEFT_OUT = {
    "prefix": ("cluster.tenant_", f"cluster.{CLUSTER}.", "listener.admin."),
    "suffix": ("_length_ms", "_connect_ms", "_per_cx", "_per_socket_event", "update_duration"),
    "contains": (".lb_", "http1.", "http2.header_", "http2.cookie_", ".external.", "internal_redirect", ".http3"),
}


def listener(settings: Settings) -> Config:
    """The listener. It takes connections also while the gateway refuses those of callers."""
    exact = [
        {"name": ":method", "string_match": {"exact": "GET"}},
        {"name": ":path", "string_match": {"exact": PAGE}},  # with no query: that is Envoy's to understand
    ]
    page = {
        "match": {"path": PAGE, "headers": exact},
        "route": {
            "cluster": CLUSTER,
            "regex_rewrite": {"pattern": {"regex": "^.*$"}, "substitution": "/stats/prometheus"},
        },
    }
    router = {"name": "router", "typed_config": {"@type": f"{TYPE}envoy.extensions.filters.http.router.v3.Router"}}
    http = {
        "@type": f"{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "metrics",
        "request_headers_timeout": "5s",
        "common_http_protocol_options": {"idle_timeout": "300s"},
        "http_filters": [router],
        "route_config": {"name": "metrics", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [page]}]},
    }
    place = {"address": settings.metrics_address, "port_value": settings.metrics_port}
    return {
        "name": "metrics",
        "address": {"socket_address": place},
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": http}]}],
    }


def cluster() -> Config:
    """Envoy's administration, from inside."""
    socket = {"endpoint": {"address": {"pipe": {"path": ADMIN_SOCKET}}}}
    return {
        "name": CLUSTER,
        "connect_timeout": "1s",
        "type": "STATIC",
        "load_assignment": {"cluster_name": CLUSTER, "endpoints": [{"lb_endpoints": [socket]}]},
    }


def whole() -> Config:
    """For the configuration as a whole. What nobody looks at is left out, such as all of each turnstile."""
    left_out = [{name: text} for name, texts in _LEFT_OUT.items() for text in texts]
    return {"stats_config": {"stats_matcher": {"exclusion_list": {"patterns": left_out}}}}
