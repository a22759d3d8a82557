"""How long `modelport list` takes on a large repository, from the start of the process to its end.

    python benchmarks/list_models.py                            1,000 models with 5 versions each

The repository is made in a temporary folder: complete configurations and manifests as `modelport export` writes them,
and small files in the place of weights, which a list never reads. Each way to list runs in turn, in a process of its
own; one run of each comes first and is not counted, so that the system has the files in memory. The file keeps every
run's time on the clock and on the CPU: where a machine does something else too, the second one is what the command
costs. `unstable` marks a spread over 25 %: the machine was not quiet.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from modelport.bench import results
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.manifest import Manifest
from modelport.spec import ModelSpec, TensorSpec, dtype_of

PACKAGES = ("modelport", "typer", "rich")
RESULTS = Path(__file__).with_name("results")
FILES = ("model.onnx", "golden.npz", "evidence.json", "card.md", "probabilities_labels.txt")
WAYS = {
    "table": (),
    "JSON": ("--json",),
    "search": ("model_*7", "--state", "serving", "--metric", "accuracy>=0.9"),
    "nothing": ("--repository", "{empty}"),
}


def make(root: Path, models: int, versions: int) -> None:
    """A repository in which the newest version of each model serves and the one before is loaded."""
    made = manifests.makers()
    for number in range(models):
        name = f"model_{number:04}"
        spec = ModelSpec(
            name=name,
            inputs=(TensorSpec(name="image", dtype=dtype_of("FP32"), dims=(28, 28, 1)),),
            outputs=(TensorSpec(name="probabilities", dtype=dtype_of("FP32"), dims=(10,)),),
            max_batch_size=32,
        )
        labels = {"probabilities": "probabilities_labels.txt"}
        config = configs.build(spec, backend="onnxruntime", filename="model.onnx", versions=[], label_files=labels)
        for version in range(1, versions + 1):
            folder = root / name / str(version)
            folder.mkdir(parents=True)
            for file in FILES:
                (folder / file).write_bytes(b"x" * 100 * version)
            configs.set_versions(config, [version])
            (folder / configs.CONFIG_FILE).write_text(configs.text(config))
            manifest = Manifest(
                spec=spec,
                version=version,
                format="onnx",
                backend="onnxruntime",
                framework="keras 3.15.1",
                created="2026-01-02T03:04:05+00:00",
                files=manifests.records(folder),
                makers=made,
                metrics={"accuracy": 0.9 + version / 100},
                facts={"recipe": "digits_cnn.py", "recipe_sha256": "0" * 64},
            )
            manifests.write(folder, manifest)
        configs.set_versions(config, range(max(1, versions - 1), versions + 1))
        (root / name / configs.CONFIG_FILE).write_text(configs.text(config))


def run(argv: list[str]) -> tuple[dict[str, float], str]:
    """One run of the command: seconds on the clock and on the CPU, and what it printed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "modelport", *argv]
    done = subprocess.run(command, env=results.environment(), capture_output=True, text=True, check=True)
    wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": wall_s, "cpu_s": cpu_s}, done.stdout


def check(way: str, printed: str, models: int, versions: int) -> None:
    """The list is whole."""
    if way == "JSON":
        found, wanted = len(json.loads(printed)), models * versions
    elif way == "search":
        found, wanted = printed.count("model_"), len([n for n in range(models) if n % 10 == 7])
    else:
        found, wanted = printed.count("model_"), models * versions * (way == "table")
    if found != wanted:
        sys.exit(f"{way}: {found} rows instead of {wanted}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS / "list_models.json")
    options = parser.parse_args()
    circumstances = results.conditions(PACKAGES)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="modelport-bench-") as scratch:
        root, empty = Path(scratch, "repository"), Path(scratch, "empty")
        make(root, options.models, options.versions)
        empty.mkdir()
        for repeat in range(-1, options.repeats):
            for way, words in WAYS.items():
                argv = ["list", "--repository", str(root), *(word.format(empty=empty) for word in words)]
                took, printed = run(argv)
                check(way, printed, options.models, options.versions)
                if repeat >= 0:
                    row = {"way": way, "round": repeat, "models": options.models, "versions": options.versions, **took}
                    rows.append(row)
    results.write(options.output, circumstances=circumstances, rows=rows)
    for way in WAYS:
        wall, cpu = (results.spread(row[key] for row in rows if row["way"] == way) for key in ("wall_s", "cpu_s"))
        print(f"{way:8} {wall.median:6.3f} s ({wall.low:.3f} to {wall.high:.3f})  CPU {cpu.median:6.3f} s"
              f"{'  unstable' if wall.unstable else ''}")  # fmt: skip
    print(f"every run: {options.output}")


if __name__ == "__main__":
    main()
