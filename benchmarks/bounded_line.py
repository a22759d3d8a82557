"""What it costs to bound the line of waiting requests: by our backends, by Triton's queue policy, and not at all.

    python benchmarks/bounded_line.py                    the digits CNN of model_repository/
    python benchmarks/bounded_line.py --random           a network of the same size with random weights

The same model is served six times, with one instance and with one per core: without a bound, with our backends' bound
(the default), and with `default_queue_policy { max_queue_size }` in its configuration. None of them ever reaches its
bound here: this is the price of having one. Load comes from `wrk`; all servers stay up, their runs take turns, and the
file keeps every single run. Behind each bound stands which part of the unbounded rate it answers.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

import numpy as np

import modelport
from modelport.bench import interleave, results, variant
from modelport.bench.interleave import Run, Target
from modelport.bench.requests import triton_request
from modelport.server import EmbeddedServer, cores

MODEL = "digits_cnn"
CORES = cores.usable()
INSTANCES = tuple(sorted({1, CORES}))
OFF = {"modelport_max_wait_ms": "0"}
BOUNDS = {"unbounded": (OFF, 0), "our backends": ({}, 0), "Triton's queue policy": ({}, 1024)}
PACKAGES = ("modelport", "nvidia-pytriton", "onnxruntime", "numpy")
RESULTS = Path(__file__).with_name("results")


def random_repository(repository: Path) -> Path:
    """Publish a CNN of the size of the digits CNN."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(1), torch.nn.Unflatten(1, (1, 28, 28)),
        torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 3), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(18432, 10), torch.nn.Softmax(1),
    )  # fmt: skip
    inputs = {"image": np.random.default_rng(0).random((4, 28, 28, 1), dtype=np.float32)}
    modelport.export(net, name=MODEL, repository=repository, example_inputs=inputs, output_names=["probabilities"])
    return repository


def name_of(bound: str, instances: int) -> str:
    return f"{bound}, {instances} instance{'s' if instances > 1 else ''}"


def show(run: Run) -> None:
    print(f"  round {run.round + 1}  {run.load.clients:3} clients  {run.server:36} "
          f"{run.load.requests_per_s:8,.0f} /s  p50 {run.load.p50_ms:7.2f} ms  p99 {run.load.p99_ms:7.2f} ms",
          flush=True)  # fmt: skip


def summary(runs: list[Run], clients: list[int]) -> list[str]:
    """For each number of clients: every server's rate and latency, and which part of the unbounded rate it is."""
    lines = []
    for count in clients:
        for instances in INSTANCES:
            for bound in BOUNDS:
                name = name_of(bound, instances)
                rate = results.spread(interleave.rates(runs, name, count))
                loads = [run.load for run in runs if run.server == name and run.load.clients == count]
                p99 = results.spread(load.p99_ms for load in loads)
                ratio = interleave.ratio(runs, name, name_of("unbounded", instances), count)
                words = [f"{count:3} clients  {name:36} {rate.median:8,.0f} /s  p99 {p99.median:7.2f} ms"]
                words += [f"x {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"] if bound != "unbounded" else []
                lines.append("  ".join(words + (["unstable"] if rate.unstable else [])))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--random", action="store_true", help="use random weights; needs no built model")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 32])
    parser.add_argument("--seconds", type=int, default=3, help="length of each run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS / "bounded_line.json")
    options = parser.parse_args()
    circumstances = results.conditions(PACKAGES)
    image = np.random.default_rng(1).random((1, 28, 28, 1), dtype=np.float32)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="modelport-bench-")))
        repository = random_repository(scratch / "repository") if options.random else options.repository
        targets = {}
        for instances in INSTANCES:
            for number, (bound, (parameters, limit)) in enumerate(BOUNDS.items()):
                folder = scratch / f"{number}-{instances}"
                variant.copy(
                    repository, MODEL, folder,
                    instance_count=instances, parameters=parameters, max_queue_size=limit,
                )  # fmt: skip
                server = EmbeddedServer(folder, models=[MODEL], http_port=0, grpc_port=0, metrics_port=0)
                url = stack.enter_context(server).http_url
                request = triton_request(MODEL, {"image": image}, "probabilities")
                targets[name_of(bound, instances)] = Target(url=url, request=request)
        runs = interleave.measure(
            targets, clients=options.clients, seconds=options.seconds, rounds=options.repeats, report=show
        )
    results.write(options.output, circumstances=circumstances, rows=interleave.rows(runs))
    print("\n".join([*summary(runs, options.clients), f"every run: {options.output}"]))


if __name__ == "__main__":
    main()
