"""Models on a GPU: the embedded server against the same model in process on the same GPU, in one run.

    python benchmarks/gpu.py                                    all of it; takes about ten minutes
    python benchmarks/gpu.py --networks resnet50 bert_base --precisions fp16
    python benchmarks/gpu.py --device cpu --quick               tiny networks on the processor: does it run at all?

Each network has random weights and runs in FP32 (without TF32) and in FP16, with float32 outside. perf_analyzer asks
with 1 to 256 requests on the way: over the network, and with tensors in CUDA shared memory (without a GPU in the
system's), which then stay on the GPU from the caller to the model and back. In process the same file runs on batches of
all sizes up to the server's largest: once they lie on the GPU already, once they come from the processor's memory and
return there. The served answers are compared with those in process first. `unstable` marks a spread over 25 %. After
each network the file holds what is measured so far.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks.cases import NETWORKS, VARIANTS, Case

import modelport
from modelport import _process
from modelport.bench import perf_analyzer, perf_program, results
from modelport.bench.load import Load
from modelport.bench.perf_analyzer import Job
from modelport.bench.places import Place
from modelport.convert.runtime import onnxruntime
from modelport.errors import ModelportError, ProcessError
from modelport.server import EmbeddedServer

PACKAGES = ("modelport", "nvidia-pytriton", "torch", "onnxruntime", "onnxruntime-gpu", "numpy")
RESULTS = Path(__file__).with_name("results")
ALLOWED = {"fp32": 1e-3, "fp16": 3e-2}  # of the largest value: batches of other sizes take other kernels
PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
SHARED = "shared memory"
Row = dict[str, Any]


def facts(device: torch.device) -> Row:
    """What there is to know of the device."""
    if device.type == "cpu":
        return {"name": "cpu", "torch": torch.__version__}
    about = torch.cuda.get_device_properties(device)
    driver = "unknown"
    with contextlib.suppress(ProcessError):
        driver = _process.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]).strip()
    return {
        "name": about.name,
        "memory_bytes": about.total_memory,
        "multiprocessors": about.multi_processor_count,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "driver": driver,
        "tf32": os.environ.get("NVIDIA_TF32_OVERRIDE") != "0",
    }


Prepare = Callable[[Any], Callable[[], Any]]  # a batch -> what runs it once


def torch_in_process(case: Case, device: torch.device) -> dict[str, Prepare]:
    """The TorchScript in this process: with tensors on the device, and from the processor's memory and back."""
    module = torch.jit.load(str(case.file), map_location=device)  # type: ignore[no-untyped-call]

    def resident(batch: Any) -> Callable[[], Any]:
        there = torch.from_numpy(batch).to(device)
        return lambda: module(there)

    return {
        "resident": resident,
        "from the host": lambda batch: lambda: module(torch.from_numpy(batch).to(device)).cpu().numpy(),
    }


def onnx_in_process(case: Case, device: torch.device) -> dict[str, Prepare]:
    """The same for ONNX Runtime."""
    session = onnxruntime.InferenceSession(case.file, providers=[PROVIDERS[device.type]])
    if PROVIDERS[device.type] not in session.get_providers():
        sys.exit(f"ONNX Runtime's {PROVIDERS[device.type]} does not start")

    def resident(batch: Any) -> Callable[[], Any]:
        binding = session.io_binding()
        there = onnxruntime.OrtValue.ortvalue_from_numpy(batch, device.type, 0)
        binding.bind_ortvalue_input("x", there)
        binding.bind_output("y", device.type, 0)
        return lambda: session.run_with_iobinding(binding)

    return {"resident": resident, "from the host": lambda batch: lambda: session.run(None, {"x": batch})[0]}


IN_PROCESS = {"pytorch": torch_in_process, "onnxruntime": onnx_in_process}


def rate(run: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Runs per second. The first ones, in which a runtime makes itself ready for the shape, do not count."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    for _ in range(5):
        run()
    wait()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(4):
            run()
        wait()
        count += 4
    return count / (time.perf_counter() - began)


def limits(case: Case, prepared: dict[str, Prepare], options: argparse.Namespace) -> Iterator[Row]:
    """Measure in process."""
    for where, prepare in prepared.items():
        for batch in options.batches:
            runs = rate(prepare(case.rows(batch)), options.device, options.interval)
            yield {"where": f"in process, {where}", "batch": batch, "inferences_per_s": runs * batch}


def check(case: Case, server: EmbeddedServer, names: Sequence[str], prepared: dict[str, Prepare], cuda: bool) -> None:
    """Every model runs on the GPU where one is measured, and gives the answers that it gives in process."""
    log = server.log.read_text(encoding="utf-8", errors="replace")
    feeds = [case.rows(1 + number % 3) for number in range(8)]
    rights = [np.asarray(prepared["from the host"](feed)()) for feed in feeds]
    for name in names:
        mark = rf"model '{re.escape(name)}' version 1 .*(on cuda|CUDAExecutionProvider)"
        if name in server.failed or (cuda and not re.search(mark, log)):
            sys.exit(f"{name} is not served on the GPU: {server.failed.get(name, 'see the log')}\n{log[-4000:]}")
        with modelport.Client(server.http_url, timeout_s=300) as client, ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda x, n=name: client.infer(n, x=x)["y"], feeds))  # type: ignore[misc]
        for answer, right in zip(answers, rights, strict=True):
            worst = float(np.abs(answer - right).max() / np.abs(right).max())
            if not worst <= ALLOWED[case.precision]:
                sys.exit(f"{name} answers wrongly: its largest difference is {worst:g} of the largest value")


def served(case: Case, server: EmbeddedServer, scratch: Path, output_bytes: int, options: Any) -> Iterator[Row]:
    """Measure the server: each variant over the network, the one whose tensors stay through shared memory too."""
    program = perf_program.find()
    handle = server.handle
    inputs = case.record(scratch / "inputs.json", output_bytes)
    urls = {"http": (handle.http_url, handle.http_headers), "grpc": (handle.grpc_url, handle.grpc_metadata)}
    url, headers = urls[options.protocol]
    place = Place(url=url, kind="temporary", words="the server", http_url=handle.http_url, headers=headers)
    for variant in VARIANTS:
        cuda = variant == "staying" and options.device.type == "cuda"
        flags = ("--shared-memory", "cuda", "--output-shared-memory-size", str(output_bytes)) if cuda else ()
        job = Job(
            place=place, model=f"{case}.{variant}", inputs=inputs, shared_memory=variant == "staying" and not cuda,
            interval_s=options.interval, flags=flags,
        )  # fmt: skip
        clients = options.clients[-1:] if variant == "no_batching" else options.clients
        for count in clients:
            load = Load(kind="concurrency", value=count)
            measured = asdict(perf_analyzer.measure(program, job, load, folder=scratch))
            way = SHARED if variant == "staying" else options.protocol
            yield {"where": f"served, {variant}, {way}", "variant": variant, "clients": count, **measured}


def measure(case: Case, options: argparse.Namespace, scratch: Path) -> list[Row]:
    """One case: write, serve, check, and measure in rounds."""
    device: torch.device = options.device
    case.write(device)
    prepared = IN_PROCESS[case.engine](case, device)
    (_, *outputs) = np.asarray(prepared["from the host"](case.rows(2))()).shape
    kind = "KIND_GPU" if device.type == "cuda" else "KIND_CPU"
    names = case.publish(scratch / "repository", outputs, max_batch=max(options.batches), kind=kind)
    rows: list[Row] = []
    with EmbeddedServer(scratch / "repository", http_port=0, grpc_port=0, metrics_port=0) as server:
        check(case, server, names, prepared, device.type == "cuda")
        for number in range(options.repeats):
            found = [limits(case, prepared, options), served(case, server, scratch, 4 * int(np.prod(outputs)), options)]
            for row in (row for part in found for row in part):
                rows.append({"case": str(case), "round": number, **row})
                size = row.get("clients", row.get("batch"))
                print(f"  {row['where']:38} {size:4} {row['inferences_per_s']:10,.0f} /s", flush=True)
    return rows


def best(rows: Sequence[Row], begin: str) -> results.Spread | None:
    """The highest rate of those whose place begins so, over clients or batch sizes, with the spread of its rounds."""
    series: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if row["where"].startswith(begin):
            series.setdefault((row["where"], row.get("clients", row.get("batch"))), []).append(row["inferences_per_s"])
    return max((results.spread(values) for values in series.values()), key=lambda s: s.median, default=None)


def summary(rows: Sequence[Row]) -> list[str]:
    """For one case: the best in process, and what the server reaches of it; what joining requests gives."""
    limit, host = best(rows, "in process, resident"), best(rows, "in process, from the host")
    assert limit is not None and host is not None
    lines = [f"{rows[0]['case']}: in process {limit.median:,.0f} /s, from the host {host.median:,.0f} /s"]
    for where in dict.fromkeys(row["where"] for row in rows if row["where"].startswith("served")):
        found = best(rows, where)
        assert found is not None
        lines.append(f"  {where:38} {found.median:10,.0f} /s  {found.median / limit.median:5.2f} of in process"
                     f"{'  unstable' if found.unstable or limit.unstable else ''}")  # fmt: skip
    most = max(row["clients"] for row in rows if "clients" in row)
    alone, joined = (
        results.spread(r["inferences_per_s"] for r in rows if r.get("variant") == name and r["clients"] == most)
        for name in ("no_batching", "one_instance")
    )
    return [*lines, f"  joining requests, {most} clients: {joined.median / alone.median:.1f} times"]


def engines(device: torch.device) -> list[str]:
    """The runtimes that can use the device."""
    return ["pytorch"] + (["onnxruntime"] if PROVIDERS[device.type] in onnxruntime.get_available_providers() else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny networks, short runs: not for figures")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--precisions", nargs="+", choices=ALLOWED, default=list(ALLOWED))
    parser.add_argument("--engines", nargs="+", choices=IN_PROCESS, help="by default those that can use the device")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--max-batch", type=int, default=128)
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http")
    parser.add_argument("--interval", type=float, default=0.7, help="seconds of a window; a run has three")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # as the server does, for the same arithmetic
    if options.quick:
        options.clients, options.max_batch, options.interval = [4], 4, 0.1
        torch.set_num_threads(1)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no GPU here; --device cpu --quick tries the way without one")
    options.device = torch.device(options.device)
    options.batches = [2**n for n in range(options.max_batch.bit_length())]
    about = facts(options.device)
    name = re.sub(r"[^a-z0-9]+", "-", about["name"].lower()).strip("-")
    output = options.output or RESULTS / f"gpu-{name}.json"
    circumstances = {**results.conditions(PACKAGES), "device": about}
    if commit := os.environ.get("MODELPORT_COMMIT"):  # of the kit, which is no checkout
        circumstances["commit"] = commit.strip()
    rows: list[Row] = []
    for network in options.networks:
        for precision in options.precisions:
            for engine in options.engines or engines(options.device):
                with tempfile.TemporaryDirectory(prefix="modelport-gpu-") as scratch, torch.inference_mode():
                    folder = Path(scratch, "artefact")
                    case = Case(network=network, precision=precision, engine=engine, folder=folder, quick=options.quick)
                    print(case, flush=True)
                    rows += measure(case, options, Path(scratch))
                results.write(output, circumstances=circumstances, rows=rows)
    for case_name in dict.fromkeys(row["case"] for row in rows):
        print("\n".join(summary([row for row in rows if row["case"] == case_name])))
    print(f"written to {output}")


if __name__ == "__main__":
    try:
        main()
    except ModelportError as error:
        sys.exit(str(error))
