"""How long going back to the version before takes: while that is still loaded, and when it has to be loaded first.

    python benchmarks/rollback.py                       ResNet-18, images of 224x224 pixels, random weights

The server runs as `modelport.serve` starts it, and nobody else asks it. Each way to go back takes its turn in every
round, once as the function in this process (`call`) and once as the command `modelport rollback` (`command`, from the
start of the process to its end). `switch` is the part from the change of `config.pbtxt` until the old version was
proved to serve, asked for by its number and without; before it, its files are compared with its manifest, and, where it
is not loaded, it is loaded on trial and its evidence is replayed. The file keeps every run. `unstable` marks a spread
over 25 %: the machine was not quiet.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from networks import resnet

import modelport
from modelport.bench import results

PACKAGES = ("modelport", "nvidia-pytriton", "onnxruntime", "numpy", "tritonclient", "typer")
RESULTS = Path(__file__).with_name("results")
LOADED, UNLOADED = "loaded", "not loaded"
CALL, COMMAND = "call", "command"


def go_back(repository: Path, way: str) -> tuple[float, float]:
    """Seconds of the whole, and of the switch in it."""
    started = time.perf_counter()
    if way == CALL:
        switch_s = modelport.rollback(resnet.NAME, repository=repository).switch_s
    else:
        command = [
            sys.executable,
            "-m",
            "modelport",
            "rollback",
            resnet.NAME,
            "--repository",
            str(repository),
            "--json",
        ]
        done = subprocess.run(
            command, env=results.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode != 0:
            sys.exit(f"the command failed: {done.stderr}")
        switch_s = json.loads(done.stdout)["switch_s"]
    return time.perf_counter() - started, switch_s


def measure(repository: Path, repeats: int) -> list[dict[str, object]]:
    """One row for each rollback."""
    rows: list[dict[str, object]] = []
    modelport.promote(resnet.NAME, 2, repository=repository)
    go_back(repository, COMMAND)  # not kept: its modules are compiled now
    for number in range(repeats):
        for state in (LOADED, UNLOADED):
            for way in (CALL, COMMAND):
                modelport.promote(resnet.NAME, 2, repository=repository, unload_old=state == UNLOADED)
                whole_s, switch_s = go_back(repository, way)
                rows.append({"round": number, "before": state, "way": way, "whole_s": whole_s, "switch_s": switch_s})
                print(f"  round {number + 1:2}  {state:10}  {way:7}  whole {whole_s:6.3f} s  switch {switch_s:6.3f} s",
                      flush=True)  # fmt: skip
    return rows


def summary(rows: list[dict[str, object]]) -> list[str]:
    lines = []
    for state in (LOADED, UNLOADED):
        for way in (CALL, COMMAND):
            for part in ("whole_s", "switch_s"):
                own = [float(str(row[part])) for row in rows if (row["before"], row["way"]) == (state, way)]
                found = results.spread(own)
                times = f"{found.median:6.3f} s ({found.low:.3f} to {found.high:.3f})"
                lines.append(f"{state:10}  {way:7}  {part[:-2]:6}  {times}{'  unstable' if found.unstable else ''}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--width", type=int, default=64, help="channels of the first layer; 64 is ResNet-18")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS / "rollback.json")
    options = parser.parse_args()
    circumstances = {**results.conditions(PACKAGES), "image": options.image, "width": options.width}
    with tempfile.TemporaryDirectory(prefix="modelport-bench-") as scratch:
        repository = Path(scratch) / "repository"
        size = resnet.publish(repository, versions=2, image=options.image, width=options.width)
        with modelport.serve(repository, http_port=0, grpc_port=0, metrics_port=0):
            rows = measure(repository, options.repeats)
    results.write(options.output, circumstances={**circumstances, "model_bytes": size}, rows=rows)
    print("\n".join([*summary(rows), f"every run: {options.output}"]))


if __name__ == "__main__":
    main()
