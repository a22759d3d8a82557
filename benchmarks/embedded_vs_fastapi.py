"""The embedded server against the usual FastAPI service, on one machine, in one run.

    python benchmarks/embedded_vs_fastapi.py                    the digits CNN of model_repository/
    python benchmarks/embedded_vs_fastapi.py --random           the same network with random weights

One request is one 28x28 image as raw float32, from the same load generator (`wrk`) with 1, 8 and 32 clients. Both
answer with ONNX Runtime from the same file, and the answers are checked first. The embedded server runs as exported,
and with an instance per core; FastAPI runs under uvicorn (uvloop, httptools) as it is mostly written (one worker, ONNX
Runtime's defaults), with one thread, and with a worker per core. All servers stay up, their runs take turns, and the
file keeps every single run. Behind each FastAPI stands how many times its rate the two embedded servers answer.
`unstable` marks a spread over 25 %: the machine was not quiet.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

import numpy as np

import modelport
from modelport.bench import interleave, peer, results, variant
from modelport.bench.interleave import Run, Target
from modelport.bench.requests import Request, send, triton_request
from modelport.convert.runtime import onnxruntime
from modelport.repository.layout import version_folder
from modelport.server import EmbeddedServer, cores

MODEL = "digits_cnn"
CORES = cores.usable()
EMBEDDED = ("embedded", f"embedded, {CORES} instances")
# Workers of uvicorn, and ONNX Runtime's threads in each; 0 is its default, all cores.
PEERS = {"FastAPI": (1, 0), "FastAPI, 1 thread": (1, 1), f"FastAPI, {CORES} workers": (CORES, 1)}
PACKAGES = ("modelport", "nvidia-pytriton", "onnxruntime", "numpy", "fastapi", "uvicorn", "uvloop", "httptools")
RESULTS = Path(__file__).with_name("results")


def random_repository(repository: Path) -> Path:
    """Publish the digits CNN with random weights."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 28)), torch.nn.Flatten(3), torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(),
        torch.nn.Conv2d(32, 32, 3), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(18432, 10), torch.nn.Softmax(1),
    )  # fmt: skip
    inputs = {"image": np.random.default_rng(0).random((4, 28, 28, 1), dtype=np.float32)}
    modelport.export(net, name=MODEL, repository=repository, example_inputs=inputs, output_names=["probabilities"])
    return repository


def check(targets: dict[str, Target], model: Path, image: np.ndarray) -> None:
    """Every server gives the answer of the model itself."""
    (right,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"image": image})
    for name, target in targets.items():
        worst = float(np.abs(send(target.url, target.request) - right.ravel()).max())
        if not worst <= 1e-5:
            sys.exit(f"{name} answers wrongly: largest difference {worst:g}")


def show(run: Run) -> None:
    print(f"  round {run.round + 1}  {run.load.clients:3} clients  {run.server:22} "
          f"{run.load.requests_per_s:8,.0f} /s  p50 {run.load.p50_ms:7.2f} ms", flush=True)  # fmt: skip


def summary(runs: list[Run], clients: list[int]) -> list[str]:
    """For each number of clients: every server's rate, and how many times a peer's rate the embedded server has."""
    lines = []
    for count in clients:
        for name in [*EMBEDDED, *PEERS]:
            rate = results.spread(interleave.rates(runs, name, count))
            ratios = [interleave.ratio(runs, one, name, count) for one in EMBEDDED] if name in PEERS else []
            words = [f"x {r.median:.2f} ({r.low:.2f} to {r.high:.2f})" for r in ratios]
            words += ["unstable"] if rate.unstable else []
            lines.append("  ".join([f"{count:3} clients  {name:22} {rate.median:8,.0f} /s", *words]))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--random", action="store_true", help="use random weights; needs no built model")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=int, default=5, help="length of each run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS / "embedded_vs_fastapi.json")
    options = parser.parse_args()
    circumstances = results.conditions(PACKAGES)
    image = np.random.default_rng(1).random((1, 28, 28, 1), dtype=np.float32)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="modelport-bench-")))
        repository = random_repository(scratch / "repository") if options.random else options.repository
        model = version_folder(repository, MODEL) / "model.onnx"
        copies = scratch / "copies"
        variant.copy(repository, MODEL, copies, instance_count=CORES, parameters={"intra_op_thread_count": "1"})
        targets = {}
        for name, folder in zip(EMBEDDED, (repository, copies), strict=True):
            server = EmbeddedServer(folder, models=[MODEL], http_port=0, grpc_port=0, metrics_port=0)
            url = stack.enter_context(server).http_url
            targets[name] = Target(url=url, request=triton_request(MODEL, {"image": image}, "probabilities"))
        for name, (workers, threads) in PEERS.items():
            log = scratch / f"{workers}-{threads}.log"
            url = stack.enter_context(peer.fastapi(model, workers=workers, threads=threads, log=log))
            targets[name] = Target(url=url, request=Request(path="/infer", body=image.tobytes()))
        check(targets, model, image)
        runs = interleave.measure(
            targets, clients=options.clients, seconds=options.seconds, rounds=options.repeats, report=show
        )
    results.write(options.output, circumstances=circumstances, rows=interleave.rows(runs))
    print("\n".join([*summary(runs, options.clients), f"every run: {options.output}"]))


if __name__ == "__main__":
    main()
