"""What a request costs its caller in Python: modelport's clients and tritonclient's, over HTTP and gRPC, against `wrk`.

    python benchmarks/python_clients.py               the digits CNN of model_repository/
    python benchmarks/python_clients.py --random      a network of the same shapes with random weights
    python benchmarks/python_clients.py --quick       one round, each run 1 s: that it runs, not what it says

One request is one 28x28 image as binary float32 (3 KB), sent to the embedded server with 1 thread and with 8 on
connections that stay open. modelport's clients are shared by all threads; tritonclient's HTTP client must not be, so
each thread has one of its own. `caller` is the processor time that the calling process takes for each request, from
the array to the answer's array. All callers take turns in every round, and the file keeps every single run.
`unstable` marks a rate whose rounds are more than 25 % apart: the machine was not quiet.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from networks import samples

from modelport.bench import callers, results, usage, wrk
from modelport.bench.requests import triton_request
from modelport.client import Client
from modelport.server import EmbeddedServer

MODEL, INPUT, OUTPUT = "digits_cnn", "image", "probabilities"
PACKAGES = ("modelport", "nvidia-pytriton", "tritonclient", "grpcio", "geventhttpclient", "numpy")
RESULTS = Path(__file__).with_name("results")
Row = dict[str, Any]
Calls = contextlib.AbstractContextManager[list[Callable[[], object]]]


@contextlib.contextmanager
def ours(url: str, image: np.ndarray, threads: int) -> Iterator[list[Callable[[], object]]]:
    with Client(url, token="") as client:
        yield [lambda: client.infer(MODEL, image=image)[OUTPUT]] * threads


@contextlib.contextmanager
def tritons(package: Any, url: str, image: np.ndarray, threads: int) -> Iterator[list[Callable[[], object]]]:
    clients = [package.InferenceServerClient(url) for _ in range(threads)]

    def call(client: Any) -> np.ndarray:
        tensor = package.InferInput(INPUT, image.shape, "FP32")
        tensor.set_data_from_numpy(image)
        found: np.ndarray = client.infer(MODEL, [tensor]).as_numpy(OUTPUT)
        return found

    yield [lambda client=client: call(client) for client in clients]
    for client in clients:
        client.close()


def callers_of(server: EmbeddedServer, image: np.ndarray, threads: int) -> dict[str, Callable[[], Calls]]:
    """The ways to call from Python."""
    http, grpc = server.http_url.partition("//")[2], server.grpc_url.partition("//")[2]
    return {
        "modelport, HTTP": lambda: ours(server.http_url, image, threads),
        "modelport, gRPC": lambda: ours(server.grpc_url, image, threads),
        "tritonclient, HTTP": lambda: tritons(tritonclient.http, http, image, threads),
        "tritonclient, gRPC": lambda: tritons(tritonclient.grpc, grpc, image, threads),
    }


def measured(server: EmbeddedServer, threads: int, seconds: int) -> Iterator[Row]:
    """One run of every caller."""
    image = np.random.default_rng(1).random((1, 28, 28, 1), dtype=np.float32)
    used = usage.own_s()
    request = triton_request(MODEL, {INPUT: image}, OUTPUT)
    load = wrk.measure(server.http_url, request, clients=threads, seconds=seconds)
    yield {"caller": "wrk", **asdict(load), "caller_us_per_request": 1e6 * (usage.own_s() - used) / load.requests}
    for name, connected in callers_of(server, image, threads).items():
        with connected() as calls:
            load, cost = callers.drive(calls, seconds=seconds)
        yield {"caller": name, **asdict(load), "caller_us_per_request": cost}


def summary(rows: list[Row], threads: list[int]) -> Iterator[str]:
    """Rate, its part of `wrk`'s, latency and the caller's cost, with the range of the ratio over the rounds."""

    def of(field: str, caller: str, count: int) -> list[float]:
        return [row[field] for row in rows if (row["caller"], row["clients"]) == (caller, count)]

    for count in threads:
        for name in dict.fromkeys(row["caller"] for row in rows):
            rate, whole = of("requests_per_s", name, count), of("requests_per_s", "wrk", count)
            part = results.spread(one / other for one, other in zip(rate, whole, strict=True))
            middle = results.spread(rate)
            cost, p50 = (results.spread(of(field, name, count)) for field in ("caller_us_per_request", "p50_ms"))
            line = f"{count:3} at once  {name:20} {middle.median:8,.0f} /s  x {part.median:.2f} "
            line += f"({part.low:.2f} to {part.high:.2f})  p50 {p50.median:6.2f} ms  caller {cost.median:6.0f} us"
            yield line + ("  unstable" if middle.unstable else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--random", action="store_true", help="use random weights; needs no built model")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=int, default=4, help="length of each run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round, each run 1 s: says little")
    parser.add_argument("--output", type=Path, default=RESULTS / "python_clients.json")
    options = parser.parse_args()
    seconds, repeats = (1, 1) if options.quick else (options.seconds, options.repeats)
    circumstances = results.conditions(PACKAGES)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="modelport-bench-") as scratch:
        repository = samples.publish(Path(scratch, "random"), [MODEL]) if options.random else options.repository
        with EmbeddedServer(
            repository, models=[MODEL], state_dir=Path(scratch, "state"), http_port=0, grpc_port=0, metrics_port=0
        ) as server:
            for number in range(0 if options.quick else -1, repeats):  # the first round warms everything up
                for count in options.threads:
                    found = [{"round": number, **row} for row in measured(server, count, seconds)]
                    rows += found if number >= 0 else []
    results.write(options.output, circumstances=circumstances, rows=rows)
    print("\n".join([*summary(rows, options.threads), f"every run: {options.output}"]))


if __name__ == "__main__":
    main()
