"""What Prometheus reads of the gateway: Envoy's own figures, and counts by tenant and model.

A listener of its own hands out one page of Envoy's administration, `GET /metrics`, and nothing else of it. Names of
tenants and models come from keys that were checked and from the repository, never from what a caller sends; where there
are too many of them, new ones are not counted.
"""

from __future__ import annotations

from modelport.gateway.envoy.filters import CLAIMS, TYPE, Config
from modelport.gateway.settings import Settings

ADMIN_SOCKET = "admin.sock"
CLUSTER = "admin"
PAGE = "/metrics"
SCOPE = "modelport"
MOST_COUNTERS = 10_000  # each for one tenant, model and kind of answer
MOST_HISTOGRAMS = 1_000
BUCKETS_MS = (0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000)
_LEFT_OUT = {
    "prefix": ("cluster.tenant_", f"cluster.{CLUSTER}.", "listener.admin."),
    "suffix": ("_length_ms", "_connect_ms", "_per_cx", "_per_socket_event", "update_duration"),
    "contains": (".lb_", "http1.", "http2.header_", "http2.cookie_", ".external.", "internal_redirect", ".http3"),
}
_META = "%DYNAMIC_METADATA({})%"
_TENANT = {"name": "tenant", "value_format": _META.format(":".join([*CLAIMS, "sub"]))}
_MODEL = {"name": "model", "value_format": _META.format("modelport:model")}
_ANSWER = [
    {"name": "code", "value_format": "%RESPONSE_CODE%"},
    {"name": "grpc_status", "value_format": "%GRPC_STATUS_NUMBER%"},
]
_US = "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%"


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
    buckets_us = [1000 * each for each in BUCKETS_MS]
    left_out = [{name: text} for name, texts in _LEFT_OUT.items() for text in texts]
    return {
        "stats_flush_interval": "1s",  # how old a histogram may be when it is read
        "stats_config": {
            "stats_matcher": {"exclusion_list": {"patterns": left_out}},
            "histogram_bucket_settings": [{"match": {"prefix": f"{SCOPE}."}, "buckets": buckets_us}],
        },
    }


def logs() -> list[Config]:
    """The access logs that count: what callers with a key were answered, how much was asked, and how long it took."""
    counters = [
        {"stat": {"name": "requests", "tags": [_TENANT, _MODEL, *_ANSWER]}, "value_fixed": 1},
        _bytes("received_bytes", "%BYTES_RECEIVED%"),
        _bytes("sent_bytes", "%BYTES_SENT%"),
    ]
    times = [{"stat": {"name": "us", "tags": [_TENANT, _MODEL]}, "unit": "Microseconds", "value_format": _US}]
    rows = {
        "stat": {"name": "inferences", "tags": [_TENANT, _MODEL]},
        "value_format": _META.format("modelport:inferences"),
    }
    return [
        _log("counts", _noted(*CLAIMS, "sub"), {"counters": counters}),
        _log("times", _noted("modelport", "passed"), {"counters": [rows], "histograms": times}),
    ]


def _log(name: str, where: Config, content: Config) -> Config:
    typed = {
        "@type": f"{TYPE}envoy.extensions.access_loggers.stats.v3.Config",
        "stats_scope": {"prefix": SCOPE, "max_counters": MOST_COUNTERS, "max_histograms": MOST_HISTOGRAMS},
        **content,
    }
    return {"name": name, "filter": where, "typed_config": typed}


def _noted(filter_name: str, *path: str) -> Config:
    """Only requests of which something is noted."""
    matcher = {"filter": filter_name, "path": [{"key": key} for key in path], "value": {"present_match": True}}
    return {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}}


def _bytes(name: str, value: str) -> Config:
    return {"stat": {"name": name, "tags": [_TENANT]}, "value_format": value}
