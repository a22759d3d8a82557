"""Publishing a version against copying its file: what do the checksums, the order and the lock cost?

    python benchmarks/publish.py                        100 MB, in a temporary folder below the current one
    python benchmarks/publish.py --folder /mnt/disk     on another disk

`cp and fsync` is the span from the start of the program `cp`, which copies a file that is in memory already, to the end
of one `fsync` of the copy. `publish` is the span of the call `publish(...)` alone, for a later version of a model: it
takes the locks, looks for leftovers, compares the tensors with the model's, writes configuration, card and manifest
with the sha256 of every file, syncs every file and folder, renames the version into place and syncs that. When it
begins, the artefact lies in the staging folder as an export leaves it, written but not synced; so its way to the disk
is inside both spans. Writing it into the staging folder is part of making the artefact, and is measured on its own
(`write`); `sha256` is one pass over the file. Converting and comparing the model is not in any of these spans.

The measurements take turns, and everything is on disk before each of them. The file keeps every single one.
`unstable` marks a spread over 25 %: the machine was not quiet.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from modelport.bench import results
from modelport.commands.export import finish_version
from modelport.repository import config as configs
from modelport.repository.card import Card
from modelport.repository.manifest import MANIFEST_FILE
from modelport.repository.publish import publish, staged
from modelport.spec import ModelSpec, TensorSpec, dtype_of
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.evidence import write as write_evidence
from modelport.verify.tolerance import derive

COPY, PUBLISH, WRITE, HASH = "cp and fsync", "publish", "write", "sha256"
PACKAGES = ("modelport", "numpy", "protobuf")
RESULTS = Path(__file__).with_name("results")
SPEC = ModelSpec(
    name="net",
    inputs=(TensorSpec(name="x", dtype=dtype_of("FP32"), dims=(3,)),),
    outputs=(TensorSpec(name="y", dtype=dtype_of("FP32"), dims=(2,)),),
    max_batch_size=32,
)
ANSWERS = {"y": np.zeros((64, 2), np.float32)}
PROOF = Evidence(
    reference="none: a benchmark", batched=True, samples=64, tolerances=derive(ANSWERS, None), comparisons={}
)
GOLDEN = Golden(inputs={"x": np.zeros((64, 3), np.float32)}, outputs=ANSWERS)


@contextmanager
def timed(into: dict[str, float], name: str) -> Iterator[None]:
    """Measure the block, in seconds."""
    started = time.perf_counter()
    yield
    into[name] = time.perf_counter() - started


def copy(source: Path, folder: Path) -> dict[str, float]:
    """Copy the file with `cp` and sync the copy."""
    seconds: dict[str, float] = {}
    target = folder / "copy"
    os.sync()
    with timed(seconds, COPY):
        subprocess.run(["cp", str(source), str(target)], check=True)
        descriptor = os.open(target, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    target.unlink()
    return seconds


def release(source: Path, folder: Path) -> dict[str, float]:
    """Publish the file as the next version, then read it once for a checksum."""
    seconds: dict[str, float] = {}
    content = source.read_bytes()
    config = configs.build(SPEC, backend="onnxruntime", filename="model.onnx", versions=[])
    with staged(folder / "models", SPEC.name) as staging:
        write_evidence(staging, PROOF, GOLDEN)
        os.sync()
        with timed(seconds, WRITE):
            (staging / "model.onnx").write_bytes(content)
        with timed(seconds, PUBLISH):
            done = publish(
                folder / "models",
                staging,
                config,
                finish=lambda where, version: finish_version(
                    where,
                    spec=SPEC,
                    version=version,
                    format="onnx",
                    backend="onnxruntime",
                    framework="none",
                    evidence=PROOF,
                    card=Card(title="net", description="Random bytes."),
                    facts={},
                ),
            )
    with timed(seconds, HASH), (done.folder / "model.onnx").open("rb") as file:
        while block := file.read(1 << 20):
            hashlib.sha256(block)
    if not (done.folder / MANIFEST_FILE).is_file():
        raise SystemExit("nothing was published")
    if not done.serving:
        shutil.rmtree(done.folder)  # as the copy is removed: the next one finds the same disk and memory
    return seconds


def measure(source: Path, folder: Path, repeats: int, report: Callable[[str], None]) -> list[dict[str, object]]:
    """Both in turns; which of them begins changes with every round. One row for each measurement."""
    release(source, folder)  # the first version, which serves; those that are measured come after it
    rows: list[dict[str, object]] = []
    for number in range(repeats):
        for action in (copy, release) if number % 2 else (release, copy):
            seconds = action(source, folder)
            rows += [{"what": what, "round": number, "seconds": value} for what, value in seconds.items()]
            report("  ".join([f"  round {number + 1:2}", *(f"{w} {s * 1000:7.1f} ms" for w, s in seconds.items())]))
    return rows


def of(rows: list[dict[str, object]], what: str) -> list[float]:
    """The seconds of one thing, in the order of the rounds."""
    return [float(str(row["seconds"])) for row in rows if row["what"] == what]


def summary(rows: list[dict[str, object]]) -> list[str]:
    lines = []
    for what in (COPY, PUBLISH, WRITE, HASH):
        found = results.spread(of(rows, what))
        unstable = "  unstable" if found.unstable else ""
        times = f"{found.low * 1000:.1f} to {found.high * 1000:.1f}"
        lines.append(f"{what:14} {found.median * 1000:8.1f} ms ({times}){unstable}")
    ratio = results.spread(p / c for p, c in zip(of(rows, PUBLISH), of(rows, COPY), strict=True))
    lines.append(
        f"publish takes {ratio.median:.2f} times as long as cp and fsync ({ratio.low:.2f} to {ratio.high:.2f})"
    )
    return lines


def file_system(folder: Path) -> str:
    """The kind of file system that a folder is on."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    found = [(len(m[1]), m[2]) for m in mounts if folder.resolve().is_relative_to(m[1])]
    return max(found)[1] if found else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(), help="where the temporary folder is made")
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULTS / "publish.json")
    options = parser.parse_args()
    circumstances = {
        **results.conditions(PACKAGES),
        "megabytes": options.megabytes,
        "file_system": file_system(options.folder),
    }
    with tempfile.TemporaryDirectory(prefix="modelport-bench-", dir=options.folder) as name:
        source = Path(name) / "model.bin"
        source.write_bytes(np.random.default_rng(0).bytes(int(options.megabytes * 1e6)))
        rows = measure(source, Path(name), options.repeats, lambda line: print(line, flush=True))
    results.write(options.output, circumstances=circumstances, rows=rows)
    print("\n".join([*summary(rows), f"every measurement: {options.output}"]))


if __name__ == "__main__":
    main()
