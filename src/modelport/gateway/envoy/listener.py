"""Where callers come in: the listener, its routes, the shape of refusals, and the access log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelport.gateway.envoy import tracing
from modelport.gateway.envoy.filters import CLAIMS, NAMES, PASS, TYPE, TYPES, Config
from modelport.gateway.settings import Settings

LOCAL = "x-modelport-local"  # on answers that no server gave
_NOT_FOR_CALLERS = ("location", "set-cookie", "www-authenticate")  # of a server's answer: Triton gives none of them
ACCESS_LOG = "access.log"
HTTP, GRPC = "triton_http", "triton_grpc"
TURNSTILES = "turnstiles"
TURNSTILE = "x-modelport-turnstile"  # the cluster that a request of a tenant with a limit goes through first
_GRPC_SERVICE = "/inference.GRPCInferenceService/"
_REFUSALS = {
    400: ("bad_request", "the request cannot be read"),
    401: ("unauthorized", "a valid key is needed"),
    403: ("forbidden", "this key does not allow that"),
    404: ("not_found", "there is nothing here"),
    408: ("timeout", "the request did not arrive in time"),
    413: ("too_large", "the request is too large"),
    415: ("unsupported", "compressed requests are not taken"),
    426: ("bad_request", "HTTP/1.1 or HTTP/2 is needed"),
    429: ("rate_limited", "too many requests: ask again later"),
    431: ("too_large", "the headers are too large"),
    502: ("unavailable", "the server does not answer"),
    503: ("overloaded", "the server has more requests than it can answer"),
    504: ("timeout", "the answer took too long"),
}
_DRAWS = 50  # for a server not asked yet: one that fails at once has the fewest requests, so it is drawn most often
_NOBODY = {"address_prefix": "255.255.255.255", "prefix_len": 32}
_META = "%DYNAMIC_METADATA({})%"
_LOGGED = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "id": "%REQ(X-REQUEST-ID)%",
    "tenant": _META.format(":".join([*CLAIMS, "sub"])),
    "key": _META.format(":".join([*CLAIMS, "jti"])),
    "kind": _META.format("modelport:kind"),
    "model": _META.format("modelport:model"),
    "version": _META.format("modelport:version"),
    "drawn": _META.format("modelport:drawn"),
    "passed": _META.format("modelport:passed"),
    "inferences": _META.format("modelport:inferences"),
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS_NUMBER%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "server_us": "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)%",
    "ms": "%DURATION%",
    "sent_ms": "%REQUEST_TX_DURATION%",
    "upstream": "%UPSTREAM_HOST%",
    "flags": "%RESPONSE_FLAGS%",
}
_NUMBERS = ("status", "received_bytes", "sent_bytes")  # always there; what need not be is a text, else empty


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


def turnstiles(settings: Settings) -> Config:
    """The listener behind the turnstiles: in Envoy's own memory, with no check, for what comes there was checked."""
    http = {
        "@type": f"{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": TURNSTILES,
        "server_header_transformation": "PASS_THROUGH",
        "generate_request_id": False,
        "preserve_external_request_id": True,
        "stream_idle_timeout": "0s",
        "http2_protocol_options": _http2(settings),
        "http_filters": [_router()],
        "route_config": {
            "name": TURNSTILES,
            "validate_clusters": False,
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": _to_servers(settings, [], timeout_s=0.0),  # the one in front is in force
                    "request_body_buffer_limit": settings.body_bytes,
                }
            ],
        },
    }
    return {
        "name": TURNSTILES,
        "internal_listener": {},
        "per_connection_buffer_limit_bytes": settings.body_bytes,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": http}]}],
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
    return {
        "@type": f"{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "server_name": "modelport",
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": [_NOBODY]},  # who calls from nearby is a caller like others
        "normalize_path": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "always_set_request_id_in_response": True,
        "request_headers_timeout": "10s",
        "request_timeout": f"{settings.body_s:g}s",
        "stream_idle_timeout": f"{settings.timeout_s + 5:g}s",
        "common_http_protocol_options": {"idle_timeout": "300s", "max_headers_count": 64},
        "http2_protocol_options": _http2(settings),
        "http_filters": [*filters, _router()],
        "route_config": {
            "name": "routes",
            "validate_clusters": False,  # they come from a file of their own
            "virtual_hosts": [{"name": "all", "domains": ["*"], **_routes(settings, secret)}],
        },
        "local_reply_config": _refusals(),
        "access_log": _access_logs(folder, {"trace": tracing.TRACE} if settings.otlp else {}),
        **tracing.connection(settings.otlp),
    }


def _router() -> Config:
    return {"name": "router", "typed_config": {"@type": f"{TYPE}envoy.extensions.filters.http.router.v3.Router"}}


def _http2(settings: Settings) -> Config:
    """The window of a stream is also what Envoy buffers of it: a request of the largest size has to fit in."""
    stream = max(1 << 16, settings.body_bytes)
    return {
        "max_concurrent_streams": 256,
        "initial_stream_window_size": stream,
        "initial_connection_window_size": max(4 << 20, stream),
    }


def _routes(settings: Settings, secret: str) -> Config:
    """Only for what the gate let through: all else has no route."""
    passed = [{"name": PASS, "string_match": {"exact": secret}}]
    limited = {
        "match": {"prefix": "/", "headers": [*passed, {"name": TURNSTILE, "present_match": True}]},
        "route": {"cluster_header": TURNSTILE, "timeout": f"{settings.timeout_s:g}s"},
    }
    return {
        "routes": [limited, *_to_servers(settings, passed, timeout_s=settings.timeout_s)],
        "request_headers_to_remove": [PASS, TURNSTILE],
        "response_headers_to_remove": ["x-envoy-upstream-service-time", LOCAL, *_NOT_FOR_CALLERS],
        "request_body_buffer_limit": settings.body_bytes,
    }


def _to_servers(settings: Settings, headers: list[Config], *, timeout_s: float) -> list[Config]:
    on = ["connect-failure", "refused-stream", "reset-before-request"]
    retry: Config = {"num_retries": 2, "retry_on": ",".join(on)}
    if len(settings.upstreams) > 1:  # inference changes nothing, so that another server may be asked
        elsewhere = ["retriable-status-codes", "retriable-headers"]  # not loaded there, but served
        retry["retry_on"] = ",".join([*on, "gateway-error", "reset", "unavailable", *elsewhere])
        retry["retriable_status_codes"] = [404]
        retry["retriable_headers"] = [{"name": "grpc-status", "string_match": {"exact": "5"}}]
        previous = {"@type": f"{TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}
        retry["retry_host_predicate"] = [{"name": "previous_hosts", "typed_config": previous}]
        retry["host_selection_retry_max_attempts"] = _DRAWS
    common: Config = {"timeout": f"{timeout_s:g}s", "retry_policy": retry}
    if len(settings.upstreams) > 1 and settings.another_s > 0:  # who gives no answer may hang, or compute: both go on
        retry["per_try_timeout"] = f"{settings.another_s:g}s"
        common["hedge_policy"] = {"hedge_on_per_try_timeout": True}

    def route(prefix: str, cluster: str) -> Config:
        return {"match": {"prefix": prefix, "headers": headers}, "route": {"cluster": cluster, **common}}

    return [route(_GRPC_SERVICE, GRPC), route("/v2", HTTP)]


def _refusals() -> Config:
    """Every refusal as {"error": text, "code": word}: those of the gate, then Envoy's own, by their status."""
    full = {"response_flag_filter": {"flags": ["UO"]}}  # no place is left: with the tenant, else with the servers
    tenant = {"filter": "modelport", "path": [{"key": "turnstile"}], "value": {"present_match": True}}
    no_turn = {"filters": [full, {"metadata_filter": {"matcher": tenant, "match_if_key_not_found": False}}]}
    turned_back = {
        "filter": {"and_filter": no_turn},
        "status_code": 429,
        **_shape("too many requests at a time: ask again later", "concurrency_limited", retry_after_s=1),
    }
    refused = {"filter": full, **_shape(_REFUSALS[503][1], _REFUSALS[503][0], retry_after_s=1)}
    set_by_gate = {"filter": "modelport", "path": [{"key": "code"}], "value": {"present_match": True}}
    gate = {
        "filter": {"metadata_filter": {"matcher": set_by_gate, "match_if_key_not_found": False}},
        **_shape("%LOCAL_REPLY_BODY%", _META.format("modelport:code")),
    }
    others = [
        {"filter": _status("EQ", status), **_shape(text, code, retry_after_s=int(status == 503))}
        for status, (code, text) in _REFUSALS.items()
    ]
    callers = {"filter": _all(_status("GE", 400), _status("LE", 499)), **_shape(_REFUSALS[400][1], _REFUSALS[400][0])}
    rest = {"filter": _status("GE", 400), **_shape("the request cannot be answered", "internal")}
    return {"mappers": [turned_back, refused, gate, *others, callers, rest]}


def _shape(text: str, code: str, *, retry_after_s: int = 0) -> Config:
    headers = {LOCAL: "1", **({"retry-after": str(retry_after_s)} if retry_after_s else {})}
    return {
        "headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ],
        "body_format_override": {"json_format": {"error": text, "code": code}},
    }


def _all(*filters: Config) -> Config:
    return {"and_filter": {"filters": list(filters)}}


def _status(op: str, status: int) -> Config:
    value = {"default_value": status, "runtime_key": f"modelport.status.{op}.{status}"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}


def _access_logs(folder: Path, more: Config) -> list[Config]:
    """One line for each request, in one file.

    Envoy makes the request's number itself, but for requests that it refuses before it comes to that, such as those
    with an escaped slash in their path: a number that is none is what a caller wrote, and left out.
    """
    number = {"safe_regex": {"regex": "[0-9a-f-]*"}}
    header = {"name": "x-request-id", "string_match": number, "treat_missing_header_as_empty": True}
    own = {"header_filter": {"header": header}}
    callers = {"header_filter": {"header": {**header, "invert_match": True}}}
    fields = {**_LOGGED, **more}
    return [_access_log(folder, fields, own), _access_log(folder, {**fields, "id": ""}, callers)]


def _access_log(folder: Path, fields: Config, where: Config) -> Config:
    """A line is JSON, written as text: Envoy takes far longer for the same as JSON.

    Nothing in it has to be escaped: names are checked where they are given, and nothing is what a caller wrote.
    """
    parts = [f'"{name}":{value}' if name in _NUMBERS else f'"{name}":"{value}"' for name, value in fields.items()]
    text = {"text_format_source": {"inline_string": f"{{{','.join(parts)}}}\n"}, "omit_empty_values": True}
    typed: dict[str, Any] = {
        "@type": f"{TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": str(folder.parent / ACCESS_LOG),
        "log_format": text,
    }
    return {"name": "access", "filter": where, "typed_config": typed}
