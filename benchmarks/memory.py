"""What one more small model costs in memory: N copies of a linear model, each kind of serving by itself.

    python benchmarks/memory.py               1, 2, 5 and 10 copies
    python benchmarks/memory.py --quick       1 and 2 copies, one round

The kinds take turns in every round, each server started anew:

- `compiled`: ONNX, in the server's own process.
- `isolated`: ONNX, a Python process for each instance (`modelport serve --isolated`).
- `torchscript`: TorchScript, a Python process for each instance.
- `import torch`: a Python that has imported torch and nothing else, for comparison; `import torch, spared`: as the
  processes of `torchscript` import it, with the seconds that takes.

Memory is what belongs to `tritonserver` and its processes alone, after each model has answered one request: their
private memory, and what their regions in /dev/shm hold. `beyond the first` is the mean growth from one copy to the
most. What the processes have mapped from files is shared among all that map them, so one more model adds next to
nothing to it; the file keeps it (as proportional set size) with every run.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil

import modelport
from modelport.bench import results
from modelport.repository import config as configs
from modelport.repository.layout import config_path
from modelport.server import EmbeddedServer, shared_memory, toolchain

PACKAGES = ("modelport", "nvidia-pytriton", "onnxruntime", "torch", "numpy")
OUTPUT = Path(__file__).with_name("results") / "memory.json"
MODEL = "linear"
COUNTS = (1, 2, 5, 10)
MIB = 2**20
# Kind -> artefact format, whether it is isolated.
KINDS = {"compiled": ("onnx", False), "isolated": ("onnx", True), "torchscript": ("torchscript", False)}
# Kind -> how a Python without anything else imports torch.
IMPORTS = {"import torch": "import torch", "import torch, spared": "import modelport_torch"}


def sample_model(folder: Path, kind: str) -> Path:
    """A repository with one linear model."""
    import torch

    torch.manual_seed(0)
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(8, 1)
    repository = folder / kind
    modelport.export(torch.nn.Linear(1, 1), name=MODEL, repository=repository, example_inputs={"input": x}, format=kind)
    return repository


def copies(repository: Path, target: Path, count: int) -> list[str]:
    """A repository with so many copies of the model, under names of their own."""
    names = [f"{MODEL}_{number}" for number in range(count)]
    for name in names:
        shutil.copytree(repository / MODEL, target / name)
        config = configs.read(config_path(target, name))
        config.name = name
        config_path(target, name).write_text(configs.text(config), encoding="utf-8")
    return names


def measure(repository: Path, kind: str, count: int, scratch: Path) -> dict[str, object]:
    """Serve the copies, ask each once, and read what it takes."""
    artefact, isolated = KINDS[kind]
    with ExitStack() as stack:
        target = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch))) / "repository"
        names = copies(repository / artefact, target, count)
        ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
        server = stack.enter_context(EmbeddedServer(target, isolated=isolated, **ports))
        with modelport.Client(server.http_url, timeout_s=60.0) as client:
            for name in names:
                client.infer(name, input=np.ones((1, 1), np.float32))
        return {"kind": kind, "copies": count, **used(server)}


def used(server: EmbeddedServer) -> dict[str, int]:
    """Bytes of the server and its processes."""
    root = psutil.Process(server.pid)
    family = [root, *root.children(recursive=True)]
    found = Counter[str]()
    for process in family:
        found.update(shares(process.pid))
    regions = sum(path.stat().st_blocks * 512 for path in shared_memory.entries(server.handle.shm_prefix))
    return {
        "processes": len(family),
        "bytes": found["Pss_Anon"] + regions,
        "private_bytes": found["Pss_Anon"],
        "file_bytes": found["Pss_File"],
        "region_bytes": regions,
    }


def shares(pid: int) -> dict[str, int]:
    """The kernel's proportional set sizes of a process, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}


def imported(kind: str) -> dict[str, object]:
    """A Python that has imported torch."""
    code = "import sys, time; sys.path.insert(0, sys.argv[1]); began = time.perf_counter(); "
    code += f"{IMPORTS[kind]}; print(time.perf_counter() - began, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(toolchain.BACKENDS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=results.environment()) as process:
        assert process.stdin is not None and process.stdout is not None
        seconds = float(process.stdout.readline())
        found = shares(process.pid)
        process.stdin.close()
    sizes = {"bytes": found["Pss_Anon"], "private_bytes": found["Pss_Anon"], "file_bytes": found["Pss_File"]}
    return {"kind": kind, "copies": 1, "processes": 1, **sizes, "region_bytes": 0, "seconds": seconds}


def beyond_the_first(rows: Sequence[Mapping[str, object]], kind: str) -> list[float]:
    """MiB for each further copy, from one to the most copies, in each round."""
    own = [row for row in rows if row["kind"] == kind]
    most = max(int(str(row["copies"])) for row in own)
    by_round: dict[object, dict[int, float]] = {}
    for row in own:
        by_round.setdefault(row["round"], {})[int(str(row["copies"]))] = float(str(row["bytes"]))
    return [(sizes[most] - sizes[1]) / (most - 1) / MIB for sizes in by_round.values()]


def summary(rows: Sequence[Mapping[str, object]]) -> list[str]:
    lines = []
    for kind in IMPORTS:
        own = [row for row in rows if row["kind"] == kind]
        size = results.spread(float(str(row["private_bytes"])) / MIB for row in own)
        took = results.spread(float(str(row["seconds"])) for row in own)
        unstable = "  unstable" if took.unstable or size.unstable else ""
        lines.append(f"{kind:20}  private {size.median:7.1f} MiB   {took.median:.2f} s{unstable}")
    for kind in (kind for kind in KINDS if any(row["kind"] == kind for row in rows)):
        first = results.spread(
            float(str(row["bytes"])) / MIB for row in rows if row["kind"] == kind and row["copies"] == 1
        )
        each = results.spread(beyond_the_first(rows, kind))
        further = f"{each.median:7.1f} MiB ({each.low:.1f} to {each.high:.1f})"
        unstable = "  unstable" if each.unstable and each.high - each.low > 1.0 else ""
        lines.append(f"{kind:20}  one copy {first.median:7.1f} MiB   each beyond the first {further}{unstable}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, nargs="+", default=list(COUNTS), help="1 and at least one more")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="1 and 2 copies, one round")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    counts, rounds = ([1, 2], 1) if options.quick else (sorted({1, *options.copies}), options.rounds)
    circumstances = results.conditions(PACKAGES)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="modelport-bench-") as scratch:
        for artefact in {KINDS[kind][0] for kind in options.kinds}:
            sample_model(Path(scratch), artefact)
        for number in range(rounds):
            rows += [{"round": number, **imported(kind)} for kind in IMPORTS]
            for count in counts:
                for kind in options.kinds:
                    row = {"round": number, **measure(Path(scratch), kind, count, Path(scratch))}
                    rows.append(row)
                    print(f"  round {number + 1}  {kind:18}  {count:2} copies  {int(str(row['bytes'])) / MIB:8.1f} MiB",
                          flush=True)  # fmt: skip
    results.write(options.output, circumstances=circumstances, rows=rows)
    print("\n".join([*summary(rows), f"every run: {options.output}"]))


if __name__ == "__main__":
    main()
