"""How near the embedded server comes to its limits: ONNX Runtime in process, and what a request must cost.

    python benchmarks/limits.py                 the models of model_repository/, as 'modelport demo' builds them
    python benchmarks/limits.py --random        networks of the same shapes with random weights
    python benchmarks/limits.py --quick         one short round: that it runs, not what it says

Three parts, all in every round, so that what slows the machine down slows all of them down:

- `digits`: `digits_cnn` with 1, 8 and 32 clients (`wrk`, binary HTTP), the processor time of the server for each
  request, FastAPI's latency with the same file, and ONNX Runtime in process: one thread and 32 rows at a time; and
  with the server's instances, threads and mean batch, which gives the model's own part of the processor time.
- `resnet`: `resnet18` with 8 clients, and in process with the same threads: one row, and all 8 rows at a time.
- `batching`: 32 clients with the dynamic batcher and without it, everything else alike: compiled backend, Python
  backend (`--isolated`), TorchScript. In process, one row and 32 at a time say what batching can give by computing.

The file keeps every single run; each goal is printed with the median and the range of the rounds' values.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from networks import samples
from peers import fastapi
from peers.job import Job, Serving

from modelport.bench import in_process, results, usage, variant, wrk
from modelport.bench.requests import triton_request
from modelport.repository import config as configs
from modelport.repository.layout import config_path, model_names, version_folder
from modelport.server import EmbeddedServer, counters

CORES = len(os.sched_getaffinity(0))
PACKAGES = ("modelport", "nvidia-pytriton", "onnxruntime", "torch", "numpy", "tritonclient", "fastapi", "uvicorn")
RESULTS = Path(__file__).with_name("results")
DIGITS, LINE, RESNET, SCRIPT = "digits_cnn", "linear_regression", "resnet18", "line_in_torchscript"
ALONE = "_alone"  # ending of the copies without the dynamic batcher
WAYS = ("compiled", "isolated")
# What batching on and off is compared with, and how it is served.
BATCHED = {DIGITS: WAYS, LINE: WAYS, RESNET: WAYS[:1]}
# One worker of FastAPI, with all cores for ONNX Runtime and with one.
SERVICES = ("1 worker", "1 worker of 1 thread")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Stand:
    """What is up during the measurement.

    Attributes:
        repository: The models as exported, and their copies.
        servers: `compiled` and `isolated`.
        services: FastAPI in its setups, by name.
        seconds: Length of each run under load.
    """

    repository: Path
    servers: dict[str, EmbeddedServer]
    services: dict[str, Serving]
    seconds: int

    def input(self, model: str) -> dict[str, np.ndarray]:
        """One row of random numbers."""
        (tensor,) = configs.read(config_path(self.repository, model)).input
        return {tensor.name: np.random.default_rng(1).random((1, *tensor.dims), dtype=np.float32)}

    def served(self, model: str, clients: int, way: str = "compiled") -> Row:
        """One run of `wrk`, with what the server says and needs."""
        server = self.servers[way]
        output = configs.read(config_path(self.repository, model)).output[0].name
        request = triton_request(model, self.input(model), output)
        before, used = counters.sample(server.handle), usage.tree_s(server.pid or 0)
        load = wrk.measure(server.http_url, request, clients=clients, seconds=self.seconds)
        used, after = usage.tree_s(server.pid or 0) - used, counters.sample(server.handle)
        batch = counters.rates((model, 1), before, after).mean_batch
        return {"what": "served", "model": model, "way": way, **asdict(load), "mean_batch": batch,
                "cpu_us_per_request": 1e6 * used / load.requests}  # fmt: skip

    def inside(self, model: str, batch: int, *, threads: int, sessions: int = 1) -> Row:
        """One run in process."""
        file = version_folder(self.repository, model) / "model.onnx"
        limit = in_process.measure(
            file, self.input(model), batch=batch, threads=threads, sessions=sessions, seconds=self.seconds / 2
        )
        return {"what": "in process", "model": model, **asdict(limit)}

    def instances(self, model: str) -> int:
        """How many instances of the model the server runs."""
        return sum(group.count for group in configs.read(config_path(self.repository, model)).instance_group)


def digits(stand: Stand) -> Iterator[Row]:
    for clients in (1, 8, 32):
        yield (row := stand.served(DIGITS, clients))
        if clients == 1:
            for name, service in stand.services.items():
                request = service.ways[f"FastAPI, raw bytes, {name.partition(', ')[2]}"].requests[0]
                load = wrk.measure(service.url, request, clients=1, seconds=stand.seconds)
                yield {"what": name, "model": DIGITS, **asdict(load)}
        sessions = min(CORES, stand.instances(DIGITS))
        alike = stand.inside(DIGITS, round(row["mean_batch"]), threads=CORES // sessions, sessions=sessions)
        yield {**alike, "as_with_clients": clients}
    yield stand.inside(DIGITS, 32, threads=1)


def resnet(stand: Stand) -> Iterator[Row]:
    sessions = min(CORES, stand.instances(RESNET))
    yield stand.served(RESNET, 8)
    for batch in (1, 8):
        yield stand.inside(RESNET, batch, threads=CORES // sessions, sessions=sessions)


def batching(stand: Stand) -> Iterator[Row]:
    for model, ways in BATCHED.items():
        for way, ending in itertools.product(ways, ("", ALONE)):
            yield stand.served(model + ending, 32, way)
        for batch in (1, 32):
            yield stand.inside(model, batch, threads=1)
    for ending in ("", ALONE):
        yield stand.served(SCRIPT + ending, 32)


PARTS: dict[str, Callable[[Stand], Iterator[Row]]] = {"digits": digits, "resnet": resnet, "batching": batching}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What is printed: values of the rounds, and the goal where there is one."""

    text: str
    values: list[float]
    goal: float | None = None
    at_least: bool = True

    def line(self) -> str:
        """Median, range, and whether the goal is met."""
        seen = results.spread(self.values)
        met = self.goal is not None and (seen.median >= self.goal) == self.at_least
        words = [f"{self.text:76} {seen.median:9,.2f} ({seen.low:,.2f} to {seen.high:,.2f})"]
        if self.goal is not None:
            words.append(f"goal {'>=' if self.at_least else '<='} {self.goal:g}: {'met' if met else 'MISSED'}")
        return "  ".join(words + (["unstable"] if seen.unstable else []))


def over(above: list[float], below: list[float]) -> list[float]:
    """The ratios within the rounds."""
    return [a / b for a, b in zip(above, below, strict=True)]


class Seen:
    """The rows of a measurement, by what they are."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def of(self, field: str, **wanted: object) -> list[float]:
        """The values of a field, in the order of the rounds."""
        return [row[field] for row in self._rows if all(row.get(key) == value for key, value in wanted.items())]


def digits_figures(seen: Seen) -> Iterator[Figure]:
    rate = seen.of("requests_per_s", what="served", part="digits", clients=32)
    inside = seen.of("rows_per_s", part="digits", what="in process", as_with_clients=None)
    yield Figure(text=f"{DIGITS}, 32 clients, requests/s", values=rate)
    yield Figure(text="  against ONNX Runtime in process, one thread, 32 rows at a time",
                 values=over(rate, inside), goal=0.75)  # fmt: skip
    for count in (1, 8, 32):
        cost = seen.of("cpu_us_per_request", what="served", part="digits", clients=count)
        own = seen.of("cpu_us_per_row", what="in process", as_with_clients=count)
        yield Figure(text=f"  {count} clients: rows in one run",
                     values=seen.of("mean_batch", what="served", part="digits", clients=count))  # fmt: skip
        yield Figure(text=f"  {count} clients: server's processor time beyond the model's own, us per request",
                     values=[a - b for a, b in zip(cost, own, strict=True)],
                     goal=60 if count == 32 else None, at_least=False)  # fmt: skip
    ours = seen.of("p50_ms", what="served", part="digits", clients=1)
    best = [min(pair) for pair in zip(*(seen.of("p50_ms", what=f"FastAPI, {name}") for name in SERVICES), strict=True)]
    yield Figure(text="  1 client: median latency, ms", values=ours)
    yield Figure(text="  1 client: against the faster FastAPI with raw bytes", values=over(ours, best),
                 goal=0.85, at_least=False)  # fmt: skip


def resnet_figures(seen: Seen) -> Iterator[Figure]:
    rate = seen.of("requests_per_s", part="resnet", what="served")
    yield Figure(text=f"{RESNET}, 8 clients, requests/s", values=rate)
    yield Figure(text="  rows in one run", values=seen.of("mean_batch", part="resnet", what="served"))
    for batch, goal in ((1, None), (8, 0.95)):
        inside = seen.of("rows_per_s", part="resnet", what="in process", batch=batch)
        yield Figure(text=f"  against in process with the same threads, {batch} rows at a time",
                     values=over(rate, inside), goal=goal)  # fmt: skip


def batching_figures(seen: Seen) -> Iterator[Figure]:
    pairs = [(model, way) for model, ways in BATCHED.items() for way in ways]
    for model, way in [*pairs, (SCRIPT, "compiled")]:
        on, off = (seen.of("requests_per_s", part="batching", model=model + e, way=way) for e in ("", ALONE))
        words = f"{model}, 32 clients, dynamic batching on against off" + (", isolated" if way == "isolated" else "")
        yield Figure(text=words, values=over(on, off), goal=2.5 if (model, way) == (DIGITS, "compiled") else None)
    for model in BATCHED:
        many, one = (seen.of("rows_per_s", part="batching", what="in process", model=model, batch=b) for b in (32, 1))
        yield Figure(text=f"{model} in process: 32 rows at a time against one", values=over(many, one))


FIGURES = {"digits": digits_figures, "resnet": resnet_figures, "batching": batching_figures}


def models_of(parts: list[str]) -> list[str]:
    """The sample models that are measured."""
    models = {"digits": [DIGITS], "resnet": [RESNET], "batching": list(BATCHED)}
    return sorted({name for part in parts for name in models[part]})


def prepare(source: Path, target: Path, parts: list[str]) -> list[str]:
    """Copy what is measured, and what it is measured against, into one repository; the names of the models."""
    for model in models_of(parts):
        variant.copy(source, model, target)
    if "batching" in parts:
        samples.line(target, SCRIPT, format="torchscript")
        for model in (*BATCHED, SCRIPT):
            variant.copy(target, model, target, name=model + ALONE, batching=False)
    return model_names(target)


def job_of(repository: Path, folder: Path) -> Job:
    """What FastAPI is asked to serve, by the packages that are installed here."""
    folder.mkdir()
    return Job(
        repository=repository, name=DIGITS, model=version_folder(repository, DIGITS) / "model.onnx", input="image",
        output="probabilities", rows=(np.random.default_rng(1).random((28, 28, 1), dtype=np.float32),), answers=(),
        python=Path(sys.executable), folder=folder, cores=CORES,
    )  # fmt: skip


@contextlib.contextmanager
def standing(source: Path | None, scratch: Path, parts: list[str], seconds: int) -> Iterator[Stand]:
    """Start everything that is measured."""
    models = prepare(
        source or samples.publish(scratch / "random", models_of(parts)), repository := scratch / "models", parts
    )
    with contextlib.ExitStack() as stack:
        servers, services = {}, {}
        for way in WAYS[: 2 if "batching" in parts else 1]:
            wanted = [name for name in models if way == "compiled" or name.startswith((DIGITS, LINE))]
            server = EmbeddedServer(
                repository, models=wanted, isolated=way == "isolated", state_dir=scratch / way,
                http_port=0, grpc_port=0, metrics_port=0,
            )  # fmt: skip
            servers[way] = stack.enter_context(server)
        if "onnxruntime" not in servers["compiled"].handle.inside:
            sys.exit("the backend was not compiled when modelport was installed: this measures the compiled one")
        for setup in SERVICES if "digits" in parts else ():
            job = job_of(repository, scratch / setup.replace(" ", "-"))
            services[f"FastAPI, {setup}"] = stack.enter_context(fastapi.start(job, setup))
        yield Stand(repository=repository, servers=servers, services=services, seconds=seconds)


def show(row: Row) -> None:
    way = {"served": row.get("way")}.get(row["what"], row["what"])
    rate, load = row.get("requests_per_s", row.get("rows_per_s")), f"{row.get('clients', row.get('batch'))}"
    kind = "clients" if "clients" in row else "rows"
    print(f"  round {row['round'] + 1}  {row['model']:24} {way:31} {load:>3} {kind:8} {rate:10,.0f} /s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--random", action="store_true", help="use random weights; needs no built models")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seconds", type=int, default=4, help="length of each run under load")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round, each run 1 s: says little")
    parser.add_argument("--output", type=Path, default=RESULTS / "limits.json")
    options = parser.parse_args()
    seconds, repeats = (1, 1) if options.quick else (options.seconds, options.repeats)
    circumstances = results.conditions(PACKAGES)
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="modelport-bench-") as scratch,
        standing(None if options.random else options.repository, Path(scratch), options.parts, seconds) as stand,
    ):
        for number, part in itertools.product(range(0 if options.quick else -1, repeats), options.parts):
            for row in PARTS[part](stand):
                if number >= 0:  # the first round warms everything up
                    rows.append({"round": number, "part": part, **row})
                    show(rows[-1])
    results.write(options.output, circumstances=circumstances, rows=rows)
    for part in options.parts:
        print("\n".join(figure.line() for figure in FIGURES[part](Seen(rows))))
    print(f"every run: {options.output}")


if __name__ == "__main__":
    main()
