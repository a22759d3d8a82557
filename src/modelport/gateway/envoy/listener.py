"""Where callers come in: the listener, its routes, the shape of refusals, and the access log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelport.gateway.envoy.filters import CLAIMS, NAMES, PASS, TYPE, TYPES, Config
from modelport.gateway.settings import Settings

LOCAL = "x-modelport-local"  # on answers that no server gave
ACCESS_LOG = "access.log"
HTTP, GRPC = "triton_http", "triton_grpc"
_GRPC_SERVICE = "/inference.GRPCInferenceService/"
_REFUSALS = {
    400: ("bad_request", "the request cannot be read"),
    401: ("unauthorized", "a valid key is needed"),
    403: ("forbidden", "this key does not allow that"),
    404: ("not_found", "there is nothing here"),
    408: ("timeout", "the request did not arrive in time"),
    413: ("too_large", "the request is too large"),
    415: ("unsupported", "compressed requests are not taken"),
    429: ("rate_limited", "too many requests: ask again later"),
    431: ("too_large", "the headers are too large"),
    503: ("overloaded", "the server has more requests than it can answer"),
    504: ("timeout", "the answer took too long"),
}
_META = "%DYNAMIC_METADATA({})%"
_LOGGED = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "id": "%REQ(X-REQUEST-ID)%",
    "tenant": _META.format(":".join([*CLAIMS, "sub"])),
    "key": _META.format(":".join([*CLAIMS, "jti"])),
    "kind": _META.format("modelport:kind"),
    "model": _META.format("modelport:model"),
    "version": _META.format("modelport:version"),
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS_NUMBER%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "ms": "%DURATION%",
    "upstream": "%UPSTREAM_HOST%",
    "flags": "%RESPONSE_FLAGS%",
}


def listener(settings: Settings, folder: Path, filters: list[Config], secret: str) -> Config:
    """The listener, with one chain of filters for HTTP/1.1, HTTP/2 and gRPC.

    Args:
        settings: Address, certificate, limits.
        folder: Of the files that Envoy follows.
        filters: The filters' entries, as `discovered` or as they are.
        secret: What the gate puts on requests that it lets through.
    """
    chain: Config = {
        "filters": [{"name": "http", "typed_config": _http(settings, folder, filters, secret)}],
        "transport_socket_connect_timeout": "10s",
    }
    if settings.tls:
        chain["transport_socket"] = _tls(folder)
    return {
        "name": "front",
        "address": {"socket_address": {"address": settings.address, "port_value": settings.port}},
        "per_connection_buffer_limit_bytes": settings.body_bytes,
        "filter_chains": [chain],
    }


def discovered(folder: Path) -> list[Config]:
    """The filters, each from a file that Envoy follows."""
    return [
        {"name": name, "config_discovery": {"config_source": followed(folder, name), "type_urls": [TYPE + TYPES[name]]}}
        for name in NAMES
    ]


def followed(folder: Path, name: str) -> Config:
    """A file that Envoy reads again whenever it is replaced."""
    source = {"path": str(folder / f"{name}.json"), "watched_directory": {"path": str(folder)}}
    return {"path_config_source": source, "resource_api_version": "V3"}


def _tls(folder: Path) -> Config:
    secret = {"name": "tls", "sds_config": followed(folder, "tls")}
    context = {
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [secret],
        }
    }
    typed = {"@type": f"{TYPE}envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", **context}
    return {"name": "tls", "typed_config": typed}


def _http(settings: Settings, folder: Path, filters: list[Config], secret: str) -> Config:
    router = {"name": "router", "typed_config": {"@type": f"{TYPE}envoy.extensions.filters.http.router.v3.Router"}}
    return {
        "@type": f"{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "server_name": "modelport",
        "use_remote_address": True,
        "normalize_path": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "always_set_request_id_in_response": True,
        "request_headers_timeout": "10s",
        "request_timeout": f"{settings.body_s:g}s",
        "stream_idle_timeout": f"{settings.timeout_s + 5:g}s",
        "common_http_protocol_options": {"idle_timeout": "300s", "max_headers_count": 64},
        "http2_protocol_options": {
            "max_concurrent_streams": 256,
            "initial_stream_window_size": 1 << 20,
            "initial_connection_window_size": 4 << 20,
        },
        "http_filters": [*filters, router],
        "route_config": {
            "name": "routes",
            "virtual_hosts": [{"name": "all", "domains": ["*"], **_routes(settings, secret)}],
        },
        "local_reply_config": _refusals(),
        "access_log": [_access_log(folder)],
    }


def _routes(settings: Settings, secret: str) -> Config:
    """Only for what the gate let through: all else has no route."""
    several = len(settings.upstreams) > 1
    on = ["connect-failure", "refused-stream", "reset-before-request"]
    retry: Config = {"num_retries": 2, "retry_on": ",".join(on)}
    if several:  # inference changes nothing, so that another server may be asked
        retry["retry_on"] = ",".join([*on, "gateway-error", "reset", "unavailable"])
        previous = {"@type": f"{TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}
        retry["retry_host_predicate"] = [{"name": "previous_hosts", "typed_config": previous}]
        retry["host_selection_retry_max_attempts"] = 5
    passed = [{"name": PASS, "string_match": {"exact": secret}}]
    common = {"timeout": f"{settings.timeout_s:g}s", "retry_policy": retry}

    def route(prefix: str, cluster: str) -> Config:
        return {"match": {"prefix": prefix, "headers": passed}, "route": {"cluster": cluster, **common}}

    return {
        "routes": [route(_GRPC_SERVICE, GRPC), route("/v2", HTTP)],
        "request_headers_to_remove": [PASS],
        "response_headers_to_remove": ["x-envoy-upstream-service-time", LOCAL],
        "request_body_buffer_limit": settings.body_bytes,
    }


def _refusals() -> Config:
    """Every refusal as {"error": text, "code": word}: those of the gate, then Envoy's own, by their status."""
    set_by_gate = {"filter": "modelport", "path": [{"key": "code"}], "value": {"present_match": True}}
    gate = {
        "filter": {"metadata_filter": {"matcher": set_by_gate, "match_if_key_not_found": False}},
        **_shape("%LOCAL_REPLY_BODY%", _META.format("modelport:code")),
    }
    others = [{"filter": _status("EQ", status), **_shape(text, code)} for status, (code, text) in _REFUSALS.items()]
    rest = {"filter": _status("GE", 400), **_shape("the request cannot be answered", "internal")}
    return {"mappers": [gate, *others, rest]}


def _shape(text: str, code: str) -> Config:
    return {
        "headers_to_add": [{"header": {"key": LOCAL, "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
        "body_format_override": {"json_format": {"error": text, "code": code}},
    }


def _status(op: str, status: int) -> Config:
    value = {"default_value": status, "runtime_key": f"modelport.status.{op}.{status}"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}


def _access_log(folder: Path) -> Config:
    typed: dict[str, Any] = {
        "@type": f"{TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": str(folder.parent / ACCESS_LOG),
        "log_format": {"json_format": _LOGGED},
    }
    return {"name": "access", "typed_config": typed}
