"""The supervisor's Prometheus metrics. They are read from what it knows when they are asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from modelport.repository.drops import Noted
from modelport.supervisor.answers import OK
from modelport.supervisor.care import Care
from modelport.supervisor.link import Link
from modelport.supervisor.probes import Prober

Family = GaugeMetricFamily | CounterMetricFamily
ACCEPTED, REFUSED = "dropped", "drop_refused"  # kinds of events
NOT_PROMOTED = "drop_not_promoted"
MAX_REASON = 300  # letters of a label
PROMOTED, ROLLED_BACK = "promoted", "rolled_back"


@dataclass(frozen=True, kw_only=True)
class Known:
    """Where the figures come from.

    Attributes:
        link: The server.
        care: What is seen of the models.
        prober: Golden requests.
        events: Counts of the events by kind.
        drops: Model, version, and what is wrong with version folders that were copied in.
        gateway: Whether the gateway runs, and how often it was started again; None where there is to be none.
        clock: The supervisor's clock.
    """

    link: Link
    care: Care
    prober: Prober
    events: Callable[[], dict[str, int]]
    drops: Callable[[], Iterable[tuple[str, int, Noted]]]
    gateway: Callable[[], tuple[bool, int] | None] = lambda: None
    clock: Callable[[], float] = time.monotonic


class Metrics(Collector):
    """The figures as Prometheus reads them.

    Args:
        known: Where they come from.
    """

    def __init__(self, known: Known) -> None:
        self._known = known
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(namespace="modelport_supervisor", registry=self._registry)

    def text(self) -> bytes:
        """All figures, in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Family]:
        """Called by the registry."""
        yield from self._of_the_server()
        yield from self._of_the_gateway()
        yield from self._of_models()
        yield from self._of_probes()
        yield from self._of_events()

    def describe(self) -> Iterator[Family]:
        """Called by the registry at the start; says that nothing is known before it is asked for."""
        return iter(())

    def _of_the_server(self) -> Iterator[Family]:
        link, handle = self._known.link, self._known.link.handle
        up = handle is not None and handle.running()
        yield _gauge("modelport_server_up", "Whether the tritonserver process lives.", up)
        since = self._known.clock() - link.since if up else 0.0
        yield _gauge("modelport_server_uptime_seconds", "Seconds since the tritonserver process was started.", since)
        yield CounterMetricFamily(
            "modelport_server_restarts", "How often a dead tritonserver was started again.", value=link.restarts
        )
        text = "Python processes that died and that the server keeps until it ends."
        yield _gauge("modelport_dead_stubs", text, self._known.care.stubs.dead)
        yield _gauge("modelport_ready", "Whether /readyz answers 200.", self._known.care.ready().ready)

    def _of_the_gateway(self) -> Iterator[Family]:
        known = self._known.gateway()
        if known is not None:
            up, restarts = known
            yield _gauge("modelport_gateway_up", "Whether the gateway's process lives.", up)
            yield _counter("modelport_gateway_restarts", "How often a dead gateway was started again.", restarts)

    def _of_models(self) -> Iterator[Family]:
        care, found = self._known.care, self._known.care.ready()
        ready = GaugeMetricFamily("modelport_model_ready", "Whether a model is ready.", labels=["model"])
        serving = GaugeMetricFamily("modelport_serving_version", "The version that callers get.", labels=["model"])
        labels = ["model", "version"]
        loaded = GaugeMetricFamily("modelport_loaded", "Versions that the server calls ready.", labels=labels)
        stubs = GaugeMetricFamily("modelport_stubs", "Processes of its own that run a version and live.", labels=labels)
        for model in found.models:
            ready.add_metric([model], float(model not in found.missing))
        for model, view in care.views.items():
            if view.serving is not None:
                serving.add_metric([model], view.serving)
            for version in view.loaded:
                loaded.add_metric([model, str(version)], 1.0)
                if not view.inside:
                    stubs.add_metric([model, str(version)], care.stubs.alive(model, version))
        restores = CounterMetricFamily(
            "modelport_stub_restores",
            "How often a model was loaded anew for a lost process.",
            labels=["model", "result"],
        )
        for (model, succeeded), count in list(care.restorer.restores.items()):
            restores.add_metric([model, "ok" if succeeded else "failed"], count)
        yield from (ready, serving, loaded, stubs, restores)

    def _of_probes(self) -> Iterator[Family]:
        labels = ["model", "version"]
        success = GaugeMetricFamily(
            "modelport_probe_success", "Whether the last golden request was answered right.", labels=labels
        )
        latency = GaugeMetricFamily(
            "modelport_probe_latency_seconds", "Seconds that the last golden request took.", labels=labels
        )
        for (model, version), result in self._known.prober.results().items():
            success.add_metric([model, str(version)], float(result.kind == OK))
            latency.add_metric([model, str(version)], result.latency_s)
        probes = CounterMetricFamily(
            "modelport_probes", "Golden requests by their result.", labels=["model", "version", "result"]
        )
        for (model, version, kind), count in list(self._known.prober.counts.items()):
            probes.add_metric([model, str(version), kind], count)
        yield from (success, latency, probes)

    def _of_events(self) -> Iterator[Family]:
        counts = self._known.events()
        drops = CounterMetricFamily("modelport_drops", "Version folders that were copied in.", labels=["result"])
        drops.add_metric(["accepted"], counts.get(ACCEPTED, 0))
        drops.add_metric(["refused"], counts.get(REFUSED, 0))
        drops.add_metric(["not_promoted"], counts.get(NOT_PROMOTED, 0))
        text = "A version folder that was copied in and refused or not promoted, and lies there unchanged."
        wrong = GaugeMetricFamily("modelport_drop_problem", text, labels=["model", "version", "result", "reason"])
        for model, version, noted in self._known.drops():
            result = "refused" if noted.refused else "not_promoted"
            wrong.add_metric([model, str(version), result, noted.reason[:MAX_REASON]], 1.0)
        yield from (drops, wrong)
        yield _counter("modelport_promotions", "Versions that were promoted.", counts.get(PROMOTED, 0))
        yield _counter("modelport_rollbacks", "Versions that were gone back to.", counts.get(ROLLED_BACK, 0))
        kinds = CounterMetricFamily("modelport_events", "Events since the supervisor's start.", labels=["kind"])
        for kind, count in sorted(counts.items()):
            kinds.add_metric([kind], count)
        yield kinds


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=float(value))
