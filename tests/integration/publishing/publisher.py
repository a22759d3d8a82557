"""Publishes again and again, each time in a new process that another program can look at: no start-up in between.

    python publisher.py         then one request a line on standard input, as JSON

A request names what to run, the repository, and the file for what is printed. The answer is the number of a process
that has done nothing yet; it waits until a line `go` comes. At its end its wait status is answered.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from modelport import _guard
from modelport.repository import config as configs
from modelport.repository import journal
from modelport.repository import manifest as manifests
from modelport.repository.publish import publish, staged
from modelport.spec import ModelSpec, TensorSpec, dtype_of

PR_SET_PTRACER, ANY = 0x59616D61, -1
LABELS = "y_labels.txt"


def tensor(name: str, size: int) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype_of("FP32"), dims=(size,))


def release(repository: Path) -> None:
    """Publish a version as the exports do; its content and its configuration tell it from others."""
    spec = ModelSpec(name="net", inputs=(tensor("x", 3),), outputs=(tensor("y", 2),), max_batch_size=8)
    labels = {LABELS: ["cat", "dog"]}
    config = configs.build(
        spec, backend="onnxruntime", filename="model.onnx", versions=[], label_files={"y": LABELS}, instance_count=3
    )

    def finish(folder: Path, version: int) -> None:
        (folder / "card.md").write_text(f"# net {version}\n")
        manifest = manifests.Manifest(
            spec=spec, version=version, format="onnx", backend="onnxruntime", framework="pytorch 2",
            created="2026-01-02T03:04:05+00:00", files=manifests.records(folder),
        )  # fmt: skip
        manifests.write(folder, manifest)

    with staged(repository, "net") as staging:
        (staging / "model.onnx").write_bytes(b"weights" * 1000)
        (staging / "evidence.json").write_text("{}")
        publish(repository, staging, config, finish=finish, labels=labels)


def careless(repository: Path) -> None:
    """As one should not: file by file into the repository, the configuration rewritten in place."""
    numbers = [int(path.name) for path in (repository / "net").glob("[0-9]*")]
    folder = repository / "net" / str(max(numbers, default=0) + 1)
    path = repository / "net" / "config.pbtxt"
    folder.mkdir(parents=True)
    path.write_text(f'name: "net"\nversion_policy {{ specific {{ versions: [ {folder.name} ] }} }}\n')
    (folder / "model.onnx").write_bytes(b"weights" * 1000)
    (folder / "manifest.json").write_text(json.dumps({"files": {}}))


def repair(repository: Path) -> None:
    """What the next command does first."""
    with journal.changing(repository, "net"):
        pass


def impatient(repository: Path) -> None:
    """Wait for the model for a moment only."""
    with journal.changing(repository, "net", timeout_s=0.3):
        pass


ACTIONS = {"release": release, "careless": careless, "repair": repair, "impatient": impatient}


def act(request: dict[str, str], ready: int, gate: int) -> None:
    """One run, in this process; it ends here."""
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(output, 2)
    os.write(ready, b"r")
    os.read(gate, 1)  # who looks at it counts from here on
    code = _guard.guarded(lambda: ACTIONS[request["action"]](Path(request["repository"])), program="publisher")
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:  # what is imported late is imported now
        for _ in range(2):
            release(Path(folder) / "models")
        shutil.rmtree(Path(folder) / "models" / "net" / "1")
    for line in sys.stdin:
        ready, set_ready = os.pipe()
        gate, open_gate = os.pipe()
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY, 0, 0, 0)
            os.close(open_gate)
            act(json.loads(line), set_ready, gate)
        os.close(gate)
        os.close(set_ready)
        os.read(ready, 1)
        os.close(ready)
        print(pid, flush=True)
        sys.stdin.readline()
        os.write(open_gate, b"g")
        os.close(open_gate)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
