"""Traces: a span for each request that is sampled, sent over OTLP, its context handed on to Triton.

Envoy decides when a request's headers have come, before any check. The context goes on the request when it leaves for
Triton, after the gate has taken off what the caller sent.
"""

from __future__ import annotations

from typing import Any

from modelport.gateway.envoy.filters import CLAIMS, FILTERS, TYPE, Config
from modelport.gateway.otlp import Otlp

CLUSTER = "otlp"
SERVICE = "modelport-gateway"
TRACE = "%TRACE_ID%"  # for the access log
FLUSH_MS = 1000
FLUSH_SPANS = 512  # of one of Envoy's threads
_CONTEXT = ("traceparent", "tracestate")
_UNSAMPLED = "-00"  # the end of such a `traceparent`
_EXPORT_S = 2.0
_MILLION = 1_000_000
_KIND = "%DYNAMIC_METADATA(modelport:kind)%"
_TAGS = {
    "modelport.tenant": f"%DYNAMIC_METADATA({':'.join([*CLAIMS, 'sub'])})%",
    "modelport.kind": _KIND,
    "modelport.model": "%DYNAMIC_METADATA(modelport:model)%",
    "modelport.version": "%DYNAMIC_METADATA(modelport:version)%",
    "http.url": "%PATH(NQ:PATH)%",  # in place of Envoy's, which has what stands behind the question mark
}


def connection(otlp: Otlp | None) -> Config:
    """What the connection manager is told; nothing where there are no traces.

    A caller's own context is taken off before Envoy looks at it, unless callers are trusted: who has no key could else
    fill the receiver, or write into others' traces.
    """
    if otlp is None:
        return {}
    http = {"http_uri": {"uri": otlp.url, "cluster": CLUSTER, "timeout": f"{_EXPORT_S:g}s"}}
    share = {"numerator": round(otlp.percent * _MILLION / 100), "denominator": "MILLION"}
    here = _sampler("trace_id_ratio_based.TraceIdRatioBased", sampling_percentage=share)
    provider = {
        "@type": f"{TYPE}envoy.config.trace.v3.OpenTelemetryConfig",
        "http_service": http,
        "service_name": SERVICE,
        "sampler": _sampler("parent_based.ParentBased", wrapped_sampler=here),
    }
    tracing = {
        "operation": _KIND,
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": provider},
        "custom_tags": [{"tag": tag, "value": value} for tag, value in _TAGS.items()],
    }
    return {"tracing": tracing, **({} if otlp.trusted else {"early_header_mutation_extensions": [_taken_off()]})}


def whole(otlp: Otlp | None) -> Config:
    """How often spans are sent. Each time that the receiver is away Envoy logs a line: so not too often."""
    if otlp is None:
        return {}
    often = {"flush_interval_ms": FLUSH_MS, "min_flush_spans": FLUSH_SPANS}
    layer = {"name": "tracing", "static_layer": {"tracing": {"opentelemetry": often}}}
    return {"layered_runtime": {"layers": [layer]}}


def clusters(otlp: Otlp | None) -> list[Config]:
    """The receiver. One that is away costs spans, never requests."""
    if otlp is None:
        return []
    place = {"socket_address": {"address": otlp.host, "port_value": otlp.port}}
    limits = {"max_connections": 4, "max_pending_requests": 64, "max_requests": 64, "max_retries": 0}
    receiver = {
        "name": CLUSTER,
        "connect_timeout": "1s",
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": place}}]}],
        },
    }
    return [receiver]


def upstream(otlp: Otlp | None) -> Config:
    """For a cluster of Triton servers: a context that says that it is not sampled goes no further.

    Triton makes spans for each request that has a context, whatever that says.
    """
    if otlp is None:
        return {}
    gone = {"request_mutations": [{"remove": name} for name in _CONTEXT]}
    removal = _extension("removal", f"{FILTERS}header_mutation.v3.HeaderMutation", mutations=gone)
    action = _extension("action", f"{FILTERS}composite.v3.ExecuteFilterAction", typed_config=removal)
    header = _extension("header", "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=_CONTEXT[0])
    unsampled = {"single_predicate": {"input": header, "value_match": {"suffix": _UNSAMPLED}}}
    matcher = _extension(
        "unsampled",
        "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        extension_config=_extension("either", f"{FILTERS}composite.v3.Composite"),
        xds_matcher={"matcher_list": {"matchers": [{"predicate": unsampled, "on_match": {"action": action}}]}},
    )
    return {"http_filters": [matcher, _extension("codec", f"{FILTERS}upstream_codec.v3.UpstreamCodec")]}


def _taken_off() -> Config:
    gone = [{"remove": name} for name in _CONTEXT]
    return _extension(
        "context", "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation", mutations=gone
    )


def _sampler(name: str, **content: Config) -> Config:
    kind, _, message = name.partition(".")
    typed = f"envoy.extensions.tracers.opentelemetry.samplers.v3.{message}SamplerConfig"
    return _extension(f"envoy.tracers.opentelemetry.samplers.{kind}", typed, **content)


def _extension(name: str, message: str, **content: Any) -> Config:
    return {"name": name, "typed_config": {"@type": TYPE + message, **content}}
