"""Figures without labels, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


def gauge(name: str, text: str, value: float) -> Metric:
    """A figure that goes up and down."""
    return GaugeMetricFamily(name, text, value=float(value))


def counter(name: str, text: str, value: float) -> Metric:
    """A figure that only grows; its name gets `_total`."""
    return CounterMetricFamily(name, text, value=float(value))
