"""What the supervisor tells Prometheus of the gateway: what callers got, quotas, captures, the certificate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from modelport.supervisor.families import counter, gauge
from modelport.usage.answers import BEYOND, BOUNDS_US, Times, Told

if TYPE_CHECKING:
    from modelport.supervisor.gateway import Figures, Front

US = 1e-6


class Alone(Collector):
    """The figures of a gateway that has no supervisor, as Prometheus reads them.

    Args:
        front: The gateway.
    """

    def __init__(self, front: Front) -> None:
        self._front = front
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """All figures, in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        return families(self._front.figures())


def families(figures: Figures) -> Iterator[Metric]:
    """Its figures.

    Args:
        figures: What is known of it.
    """
    yield gauge("modelport_gateway_up", "Whether the gateway's process lives.", figures.up)
    yield counter("modelport_gateway_restarts", "How often a dead gateway was started again.", figures.restarts)
    text = "Whether what the gateway logged cannot be counted now."
    yield gauge("modelport_usage_failing", text, figures.usage_failing)
    if figures.expires_at is not None:
        text = "From when on callers refuse the gateway's certificate, in seconds since 1970."
        yield gauge("modelport_certificate_expiry_timestamp_seconds", text, figures.expires_at)
    yield from _quotas(figures)
    text = "Requests that were to be captured and were not."
    dropped = CounterMetricFamily("modelport_capture_dropped", text, labels=["reason"])
    for reason, count in figures.captures.dropped.items():
        dropped.add_metric([reason], count)
    yield dropped
    yield counter("modelport_captured", "Requests that were captured.", figures.captures.kept)
    yield from _answers(figures.told)
    yield _times(figures.told)


def _quotas(figures: Figures) -> Iterator[Metric]:
    limit = GaugeMetricFamily(
        "modelport_quota_limit", "Inference requests that a tenant has each day.", labels=["tenant"]
    )
    left = GaugeMetricFamily("modelport_quota_left", "Those that are left of today, UTC.", labels=["tenant"])
    for tenant, (most, rest) in figures.quotas.items():
        limit.add_metric([tenant], most)
        left.add_metric([tenant], rest)
    yield from (limit, left)


def _answers(told: Told) -> Iterator[Metric]:
    labels = ["tenant", "model", "code", "grpc_status"]
    text = "Inference requests with a valid key, and what was refused with one before it was known what it asks for."
    requests = CounterMetricFamily("modelport_requests", text, labels=labels)
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for said, one in told.answers.items():
        requests.add_metric(said, one.requests)
        parts = (one.inferences, one.received_bytes, one.sent_bytes)
        sums[said.tenant, said.model] = [before + more for before, more in zip(sums[said[:2]], parts, strict=True)]
    labels = labels[:2]
    inferences = CounterMetricFamily(
        "modelport_inferences", "Rows of the requests that passed all checks.", labels=labels
    )
    received = CounterMetricFamily("modelport_received_bytes", "Bodies of those requests.", labels=labels)
    sent = CounterMetricFamily("modelport_sent_bytes", "Bodies of their answers.", labels=labels)
    for names, figures in sums.items():
        for family, figure in zip((inferences, received, sent), figures, strict=True):
            family.add_metric(names, figure)
    yield from (requests, inferences, received, sent)


def _times(told: Told) -> Metric:
    text = "How long inferences took, from the request's first byte to the answer's last."
    family = HistogramMetricFamily("modelport_request_seconds", text, labels=["tenant", "model"])
    for names, times in told.times.items():
        family.add_metric(names, _buckets(times), sum(times.us.values()) * US)
    return family


def _buckets(times: Times) -> list[tuple[str, float]]:
    """Upper bounds in seconds, each with how many took at most so long."""
    count, found = 0, []
    for bound, name in [*((bound, f"{bound * US:g}") for bound in BOUNDS_US), (BEYOND, "+Inf")]:
        count += times.counts.get(bound, 0)
        found.append((name, float(count)))
    return found
