"""Random operations through the real command line, while callers ask three models of three kinds all the time.

Versions are published, copied in, promoted and taken back; commands, stubs, the server and its supervisor are killed.
After each operation: nobody was refused but while a killed process was replaced, every answer was that of a version
which served, the server has loaded what `config.pbtxt` and `modelport list` say, and nothing is left of anything.

`MIXED_LIFE_SEED=7 pytest -m soak -k mixed_life` repeats a run; a failure prints the operations so far.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from onnx import TensorProto, helper, numpy_helper
from tritonclient.utils import InferenceServerException

from modelport.commands.adopt import adopt
from modelport.commands.export import export
from modelport.repository import drops
from modelport.server import connection, shared_memory, stubs
from modelport.server.handle import ServerHandle
from modelport.verify import evidence as evidences
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.tolerance import Tolerance

SEED = "MIXED_LIFE_SEED"
OPERATIONS = ("adopt good", "promote code 2", "rollback code", "kill journal 0.004 promote code 2")
FILES = {"net": "model.onnx", "script": "model.pt", "code": "model.py"}
X = np.array([[0.5, 0.25], [0.75, -1.0]], np.float32)
SETTLE_S = 1.5
STARTS_S = STOPS_S = 60.0
SETTLED_S, REPAIRED_S = 20.0, 45.0  # until everything is as it should be, after a command and after a kill
MEMORY_MIB, DESCRIPTORS = 64, 24
CLOSED_S = 5.0
CODE = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        {begins}

    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            y = np.stack([np.full(len(x), {value}, np.float32), x[:, 0]], axis=1)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", y)]))
        return answers
"""
CODE_CONFIG = """name: "code" backend: "python" max_batch_size: 8 instance_group { count: 1 }
input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] }
default_model_filename: "model.py"
version_policy { specific { versions: [ 1 ] } }
"""


def right(x: np.ndarray, value: float) -> np.ndarray:
    return np.stack([np.full(len(x), value, np.float32), x[:, 0]], axis=1)


class Telling(torch.nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor([float(value)]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :1] * 0 + self.value, x[:, :1]], 1)


def artefact(model: str, value: float, kind: str) -> bytes:
    """y = [value, x0] for each row; `bad` ones cannot be loaded, `wrong` ones have another input."""
    if model == "code":
        return CODE.format(value=value, begins="raise ValueError('no')" if kind == "bad" else "pass").encode()
    if model == "script":
        content = io.BytesIO()
        torch.jit.save(torch.jit.script(Telling(value)), content)
        return content.getvalue()
    x = "image" if kind == "wrong" else "x"
    weights = {"column": np.array([0]), "zero": np.zeros(1, np.float32), "value": np.array([value], np.float32)}
    nodes = [
        helper.make_node("Gather", [x, "column"], ["first"], axis=1),
        helper.make_node("Mul", ["first", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "value"], ["who"]),
        helper.make_node("NoSuch" if kind == "bad" else "Concat", ["who", "first"], ["y"], axis=1),
    ]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in (x, "y")]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "telling", infos[:1], infos[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@dataclass(frozen=True)
class Answered:
    """One request."""

    sent: float
    came: float
    model: str
    value: float | None
    error: str = ""


class Caller(threading.Thread):
    """Asks for whatever version serves, with the plain Triton client."""

    def __init__(self, life: Life, model: str, protocol: str) -> None:
        super().__init__(daemon=True)
        self._life, self._model = life, model
        self._library: Any = triton_http if protocol == "http" else triton_grpc
        self._port = life.ports["http" if protocol == "http" else "grpc"]
        self._client: Any = None

    def run(self) -> None:
        random = np.random.default_rng(self._port)
        while not self._life.ended.wait(0.1):
            if self._life.silent.is_set():
                continue
            x, sent, value, error = random.random((2, 2), dtype=np.float32), time.monotonic(), None, ""
            try:
                y = self._ask(x)
                value = float(y[0, 0])
                if not np.array_equal(y, right(x, value)):
                    error = f"a wrong answer: {y.tolist()} to {x.tolist()}"
            except Exception as exc:  # each of two libraries has many
                self._client, error = None, f"{type(exc).__name__}: {exc}"
            self._life.answers.append(Answered(sent, time.monotonic(), self._model, value, error))

    def _ask(self, x: np.ndarray) -> np.ndarray:
        http = self._library is triton_http
        if self._client is None:
            limits = {"connection_timeout": 10, "network_timeout": 10} if http else {}
            self._client = self._library.InferenceServerClient(f"127.0.0.1:{self._port}", **limits)
        tensor = self._library.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        return self._client.infer(self._model, [tensor], **({} if http else {"client_timeout": 10.0})).as_numpy("y")


@dataclass
class Life:
    """A repository, its service, its callers, and what is to be so after each operation."""

    root: Path
    seed: int
    ports: dict[str, int]
    answers: list[Answered] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)  # what must not be
    values: dict[tuple[str, int], float] = field(default_factory=dict)
    broken: set[tuple[str, int]] = field(default_factory=set)  # versions that must never serve
    ended: threading.Event = field(default_factory=threading.Event)
    silent: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.repository = self.root / "model_repository"
        self.state = self.root / "model_repository.state"
        self.sources = self.root / "sources"
        self.sources.mkdir()
        self.service: subprocess.Popen[bytes] | None = None
        self.outages: list[tuple[float, float]] = []
        self.may: dict[str, set[int]] = {}
        self.serial = 0
        self.first: dict[str, int] = {}

    # What the files say, read without the library

    def config(self, model: str) -> Path:
        return self.repository / model / "config.pbtxt"

    def named(self, model: str) -> tuple[int, ...]:
        """The versions of the policy that are there."""
        text = "".join(line for line in self.config(model).open() if not line.startswith("#"))
        found = re.search(r"version_policy\s*\{\s*specific\s*\{([^}]*)\}", text)
        return tuple(sorted({int(n) for n in re.findall(r"\d+", found[1])} & {*self.numbers(model)})) if found else ()

    def serving(self, model: str) -> int | None:
        return max(self.named(model), default=None)

    def record(self, model: str) -> dict[str, Any]:
        lines = [line for line in self.config(model).open() if line.startswith("# modelport: ")]
        return json.loads(lines[0].removeprefix("# modelport: ")) if lines else {}

    def way_back(self, model: str) -> list[int]:
        way = self.record(model).get("way_back", [])
        return [v for v in way if v in self.numbers(model) and v != self.serving(model)]

    def numbers(self, model: str) -> list[int]:
        return sorted(int(p.name) for p in (self.repository / model).iterdir() if p.name.isdigit())

    def good(self, model: str) -> list[int]:
        there = [n for n in self.numbers(model) if (self.repository / model / str(n) / "manifest.json").is_file()]
        return [n for n in there if (model, n) not in self.broken]

    def learn(self) -> None:
        """What each version is to answer: its golden answer."""
        for model in FILES:
            for number in {*self.good(model)} - {n for m, n in self.values if m == model}:
                with np.load(self.repository / model / str(number) / "golden.npz") as arrays:
                    name = next(name for name in arrays.files if name.endswith("y"))
                    self.values[model, number] = float(arrays[name][0, 0])

    # Commands and processes

    def start(self, *words: object, **options: Any) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "modelport", *map(str, words), "--repository", str(self.repository)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(line, stdin=subprocess.DEVNULL, text=True, cwd=self.root, **pipes)

    def run(self, *words: object, fails: bool | None = False) -> str:
        """Run a command to its end; `fails` None where both may be. Its output."""
        return self.end(self.start(*words), fails)

    def end(self, process: subprocess.Popen[str], fails: bool | None) -> str:
        out, err = process.communicate(timeout=240)
        command, code = process.args[3:], process.returncode
        if "Traceback" in err or (fails is not None and fails != bool(code)) or (code and "why:" not in err):
            self.found.append(f"{command} ended with {code}: {err[-2000:]}")
        return out

    def serve(self) -> None:
        words = [word for name, port in self.ports.items() for word in (f"--{name}-port", port)]
        with (self.root / "serve.log").open("a") as log:
            self.service = self.start(
                "serve", *words, "--settle", SETTLE_S, "--probe-interval", 1, stdout=log, stderr=log
            )
        self.until(lambda: self.ready() == 200, STARTS_S, "ready after the start")
        self.silent.clear()
        self.first = {}

    def ready(self, model: str = "") -> int:
        return self.said(model)[0]

    def said(self, model: str = "") -> tuple[int, str]:
        """Status and words of `/readyz`."""
        url = f"http://127.0.0.1:{self.ports['health']}/readyz{'/' if model else ''}{model}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status), ""
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    @property
    def handle(self) -> ServerHandle:
        found = connection.read(self.state)
        assert found is not None
        return found

    def until(self, holds: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                self.found.append(f"after {timeout_s:g} s it was not so: {what}")
                return
            time.sleep(0.1)

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Meanwhile callers may be refused; they may not be told anything wrong."""
        began = time.monotonic()
        yield
        self.outages.append((began - 0.5, time.monotonic() + 0.5))

    # Operations: `promote net 3` calls `op_promote("net", "3")`

    def source(self, model: str, kind: str) -> Path:
        self.serial += 1
        path = self.sources / f"{self.serial}{Path(FILES[model]).suffix}"
        path.write_bytes(artefact(model, self.serial, kind))
        return path

    def exporting(self, model: str, kind: str) -> list[object]:
        words = ["export", self.source(model, kind), "--name", model, "--input", "x:float32:batch,2", "--output", "y"]
        return [*words, "--format", "torchscript" if model == "script" else "onnx"]

    def op_export(self, model: str, kind: str) -> None:
        before = self.good(model)
        self.run(*self.exporting(model, kind), fails=kind != "good")
        new = {*self.good(model)} - {*before}
        self.learn()
        if [self.values[model, n] for n in new] != ([self.serial] if kind == "good" else []):
            self.found.append(f"published was {new}, which answers {[self.values[model, n] for n in new]}")

    def copy_in(self, model: str, kind: str) -> int:
        """Copy a version folder in, as anybody would; its number."""
        known = [n for m, n in self.values if m == model]
        number = 1 + max(*self.numbers(model), self.record(model).get("highest", 0), 0, *known)
        folder = self.repository / model / str(number)
        if kind == "whole":
            shutil.copytree(self.repository / model / str(self.serving(model)), folder.with_name(f"{number}.tmp"))
            folder.with_name(f"{number}.tmp").rename(folder)
            return number
        content = self.source(model, kind).read_bytes()
        folder.mkdir()
        if model == "code":
            prove(folder, self.serial)
        parts = {"broken": [content[:-15]], "slow": [content[:20], content[20:90], content[90:]]}.get(kind, [content])
        for part in parts:
            with (folder / FILES[model]).open("ab") as file:
                file.write(part)
            time.sleep(0.5 * SETTLE_S if kind == "slow" else 0)
        return number

    def op_drop(self, model: str, kind: str) -> None:
        """Copied in for the service to find, or for `adopt` where none runs; `code` it refuses."""
        promoted = self.record(model).get("on_drop") == "promote"
        number, good = self.copy_in(model, kind), kind in ("good", "slow", "whole") and model != "code"
        if not good:
            self.broken.add((model, number))
        if self.service is None:
            self.run("adopt", f"{model}/{number}", fails=not good)
        elif good:
            done = self.serving if promoted else lambda _: number if number in self.good(model) else None
            self.until(lambda: done(model) == number, REPAIRED_S, f"{number} was taken up")
        else:
            self.until(lambda: bool(drops.refusal(self.repository, model, number)), REPAIRED_S, f"{number} was refused")

    def op_adopt(self, kind: str) -> None:
        """Code is adopted by hand, in a race with the service, which would refuse it."""
        number = self.copy_in("code", kind)
        self.run("adopt", f"code/{number}", "--allow-code")
        if kind == "bad":
            self.broken.add(("code", number))

    def op_remove(self, model: str, number: str) -> None:
        shutil.rmtree(self.repository / model / number)
        self.broken.remove((model, int(number)))

    def op_promote(self, model: str, number: str, *more: str) -> None:
        bad, before = (model, int(number)) in self.broken, self.serving(model)
        self.run("promote", model, number, *more, fails=bad)
        if self.serving(model) != (before if bad else int(number)):
            self.found.append(f"{model} serves {self.serving(model)}")

    def op_rollback(self, model: str) -> None:
        before, way = self.serving(model), self.way_back(model)
        self.run("rollback", model, fails=not way)
        if self.serving(model) != (way[-1] if way else before):
            self.found.append(f"{model} serves {self.serving(model)}, the way back was {way}")

    def op_alias(self, model: str, word: str, number: str) -> None:
        self.run("alias", model, f"{word}={number}", fails=int(number) not in self.named(model))

    def op_tag(self, reference: str, word: str) -> None:
        self.run("tag", reference, word)

    def op_policy(self, model: str, what: str) -> None:
        self.run("policy", model, "--on-drop", what)

    def op_prune(self, model: str, keep: str) -> None:
        before, aliases = {*self.numbers(model)}, {*self.record(model).get("aliases", {}).values()}
        needed = {*self.named(model), *self.way_back(model)[-1:], *aliases}
        self.run("prune", model, "--keep", keep)
        gone = before - {*self.numbers(model)}
        self.broken -= {(model, n) for n in gone}
        if gone & needed:
            self.found.append(f"pruned was {gone & needed}, which is needed")

    def op_doctor(self) -> None:
        before = {model: (self.named(model), self.numbers(model), self.record(model)) for model in FILES}
        process = self.start("doctor", "--fix", "--json")
        out, err = process.communicate(timeout=240)
        if process.returncode not in (0, 1, 2) or not isinstance(json.loads(out), list | dict):
            self.found.append(f"doctor ended with {process.returncode}: {err}")
        if before != {model: (self.named(model), self.numbers(model), self.record(model)) for model in FILES}:
            self.found.append(f"doctor --fix changed what serves; it was {before}")

    def op_status(self) -> None:
        json.loads(self.run("status", "--json", "--sample", 0.2))

    def op_edit(self, model: str, what: str) -> None:
        """Somebody edits config.pbtxt."""
        path = self.config(model)
        text = path.read_text()
        if what == "comment":
            path.write_text(f"{text}# somebody was here\n")
        elif what == "missing":
            path.write_text(re.sub(r"(versions:\s*\[?\s*)(\d+)", r"\g<1>900 versions: \g<2>", text, count=1))
        else:
            path.write_text(text[: len(text) // 2] + "}} {")
            self.run("promote", model, fails=True)
            path.write_text(text)

    def op_both(self, *words: str) -> None:
        """Two commands at the same time; either may be too late."""
        lines = [line.split() for line in " ".join(words).split(" and ")]
        for _, model, *_ in lines:
            self.may[model] |= {*self.good(model)}
        for process in [self.start(*line) for line in lines]:
            self.end(process, None)

    def op_kill(self, place: str, delay: str, *words: str) -> None:
        """A command is killed so long after its start, or after its note in the journal or its trial is there."""
        model = words[1]
        line = self.exporting(model, "good") if words[0] == "export" else list(words)
        before = self.numbers(model)
        process = self.start(*line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        there = {"journal": f"journal/{model}.json", "trial": f"runs/*/trial/{model}.trial"}.get(place, "staging")
        while process.poll() is None and not any(self.state.glob(there)):
            time.sleep(0.001)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(float(delay))
        process.kill()
        process.wait()
        self.may[model] |= {*self.good(model)} | ({*self.numbers(model)} - {*before})
        self.run("policy", model, "--on-drop", "candidate")  # the next command, whichever it is

    def op_stub(self, model: str, number: str) -> None:
        """The stub of the serving version is killed or stopped."""
        stub = max(stubs.find(self.handle, model), key=lambda stub: stub.version)
        with self.outage():
            os.kill(stub.pid, getattr(signal, number))
            self.until(lambda: self.ready(model) == 503, REPAIRED_S, "readiness turned false")
            self.until(lambda: self.ready(model) == 200, REPAIRED_S, "ready again")

    def inside(self, model: str) -> bool:
        """Whether the model runs in the server's own process."""
        return FILES[model] == "model.onnx" and "onnxruntime" in self.handle.inside

    def op_server(self) -> None:
        """The server is killed."""
        old = self.handle
        with self.outage():
            os.kill(old.server_pid, signal.SIGKILL)
            self.until(
                lambda: self.ready() == 200 and self.handle.server_pid != old.server_pid, REPAIRED_S, "restarted"
            )
        self.gone(old)

    def op_supervisor(self, *words: str) -> None:
        """The supervisor is killed; its server serves on, commands work, and the next `serve` takes over."""
        assert self.service is not None
        old = self.handle
        self.service.kill()
        self.service.wait()
        if words:
            self.may[words[1]] |= {*self.good(words[1])}
            self.run(*words, fails=None)
        with self.outage():
            self.serve()
        self.gone(old)

    def op_down(self) -> None:
        assert self.service is not None
        old = self.handle
        with self.outage():
            self.silent.set()
            self.service.terminate()
            if self.service.wait(STOPS_S) != 0:
                self.found.append(f"the service ended with {self.service.returncode}")
            time.sleep(0.5)
        self.service = None
        self.gone(old)

    def op_up(self) -> None:
        self.serve()

    def gone(self, old: ServerHandle) -> None:
        if old.running() or shared_memory.entries(old.shm_prefix):
            self.found.append(f"the server before lives, or its memory: {shared_memory.entries(old.shm_prefix)}")

    # What must hold after each of them

    def do(self, operation: str) -> None:
        self.learn()
        self.history.append(operation)
        before = {model: self.serving(model) for model in FILES}
        self.may = {model: set() for model in FILES}
        name, *words = operation.split()
        began = time.monotonic()
        getattr(self, f"op_{name}")(*words)
        self.settled(REPAIRED_S if name in ("kill", "stub", "server", "supervisor") else SETTLED_S)
        self.learn()
        self.told(before)
        if self.service is not None:
            self.pinned()
            self.held()
        print(f"{len(self.history):4} {time.monotonic() - began:5.1f} s  {operation}", flush=True)
        if self.found:
            log = (self.root / "serve.log").read_text().splitlines()[-20:]
            pytest.fail("\n".join([*self.found, f"seed {self.seed}, after:", *self.history, *log]))

    def settled(self, timeout_s: float) -> None:
        wrong: list[str] = []

        def well() -> bool:
            wrong[:] = self.differences()
            return not wrong

        deadline = time.monotonic() + timeout_s
        while not well() and time.monotonic() < deadline:
            time.sleep(0.2)
        self.found += wrong

    def differences(self) -> list[str]:
        """What is otherwise than `config.pbtxt` says, and what was left behind."""
        left = [*self.state.glob("journal/*.json"), *self.state.glob("runs/*/trial/*")]
        left += [
            path for path in self.repository.glob("*/*") if path.name != "config.pbtxt" and not path.name.isdigit()
        ]
        if self.service is None:
            return [f"left: {path}" for path in left] + self.listed()
        left += [*self.state.glob("journal/*"), *[*self.state.glob("runs/*")][1:]]
        wrong = [f"left: {path}" for path in left] + list(filter(None, [self.said()[1]]))
        index, running = self.handle.index(), stubs.find(self.handle)
        for model in FILES:
            wanted = [*self.named(model)]
            ready = sorted(state.version for state in index if state.model == model and state.ready)
            processes = sorted(stub.version for stub in running if stub.model == model)
            if ready != wanted or processes != ([] if self.inside(model) else wanted):
                wrong.append(f"of {model}, {ready} are ready, {processes} have a process, wanted are {wanted}")
        trials = [state for state in index if state.model.endswith(".trial") and state.state not in ("", "UNAVAILABLE")]
        wrong += [f"on trial: {one}" for one in [*trials, *(s for s in running if s.model.endswith(".trial"))]]
        shared = shared_memory.entries(self.handle.shm_prefix)
        if len(shared) != len(running):  # of a process that died, it is removed after 15 s at the most
            wrong.append(f"in shared memory is {shared}, of {running}")
        assert self.service is not None
        if len(psutil.Process(self.service.pid).children()) > 1:
            wrong.append("the supervisor has a child beside the server")
        return wrong or self.listed()

    def listed(self) -> list[str]:
        """In what `modelport list --json` differs from the files."""
        wrong = []
        rows = json.loads(self.run("list", "--json"))
        for model in FILES:
            own = {row["version"]: row for row in rows if row["model"] == model}
            loaded = tuple(sorted(v for v, row in own.items() if row["loaded"]))
            serving = [v for v, row in own.items() if row["state"] == "serving"]
            bad = {v for v, row in own.items() if row["state"] == "broken"}
            aliases = self.record(model).get("aliases", {}).values()
            if sorted(own) != self.numbers(model) or loaded != self.named(model) or serving != [self.serving(model)]:
                wrong.append(f"list says {own}; config.pbtxt {self.named(model)}, folders {self.numbers(model)}")
            if bad & {*self.good(model)} or {*aliases} - {*loaded}:
                wrong.append(f"{model}: broken {bad}, aliases of {aliases}, loaded {loaded}")
        return wrong

    def told(self, before: dict[str, int | None]) -> None:
        """Every answer since the last operation was right, and from a version that might serve."""
        answers, self.answers = self.answers, []
        self.asked += len(answers)
        wrong: dict[str, int] = {}
        for one in answers:
            out = any(began <= one.came and one.sent <= ended for began, ended in self.outages)
            may = {before[one.model], self.serving(one.model), *self.may[one.model]}
            if one.error and (not out or one.value is not None):
                wrong[f"{one.model}: {one.error}"] = wrong.get(f"{one.model}: {one.error}", 0) + 1
            elif not one.error and one.value not in {self.values.get((one.model, v)) for v in may if v}:
                text = f"{one.model}: answered {one.value}, where versions {may} might"
                wrong[text] = wrong.get(text, 0) + 1
        self.found += [f"{count} times {text}" for text, count in wrong.items()]

    def pinned(self) -> None:
        """Every loaded version gives its own answer to those who ask for it by its number."""
        client = triton_http.InferenceServerClient(f"127.0.0.1:{self.ports['http']}", network_timeout=10)
        tensor = triton_http.InferInput("x", [2, 2], "FP32")
        tensor.set_data_from_numpy(X)
        for model, version in [(one, number) for one in FILES for number in self.named(one)]:
            try:
                y = client.infer(model, [tensor], model_version=str(version)).as_numpy("y")
            except InferenceServerException as exc:
                self.found.append(f"{model}/{version} does not answer: {exc}")
            else:
                if not np.array_equal(y, right(X, self.values[model, version])):
                    self.found.append(f"{model}/{version} answers {y.tolist()}")
        client.close()

    def holding(self) -> dict[str, int]:
        """What the server and the supervisor hold."""
        assert self.service is not None
        server, supervisor = psutil.Process(self.handle.server_pid), psutil.Process(self.service.pid)
        running = len(stubs.find(self.handle))
        return {
            "server": server.pid,
            "stubs": running,
            "memory": server.memory_info().rss + supervisor.memory_info().rss >> 20,
            "descriptors": server.num_fds() + supervisor.num_fds() - 8 * running,
            "children": sum(child.status() != psutil.STATUS_ZOMBIE for child in server.children(recursive=True)),
        }

    def held(self) -> None:
        """What is held, against the start; what callers closed may be closed a little later by the server."""
        now, deadline = self.holding(), time.monotonic() + CLOSED_S
        if self.first.get("server") != now["server"]:
            self.first = now
        while now["descriptors"] > self.first["descriptors"] + DESCRIPTORS and time.monotonic() < deadline:
            time.sleep(0.2)
            now = self.holding()
        if now["children"] != now["stubs"]:
            self.found.append(f"children and stubs are not as many: {now}")
        if (
            now["memory"] > self.first["memory"] + MEMORY_MIB
            or now["descriptors"] > self.first["descriptors"] + DESCRIPTORS
        ):
            self.found.append(f"it held {self.first}, now {now}")

    # The life itself

    def begin(self) -> None:
        """Three models with a version each, served."""
        for model in ("net", "script"):
            path = self.source(model, "good")
            source = torch.jit.load(path) if model == "script" else path
            kind = "torchscript" if model == "script" else "onnx"
            export(
                source, name=model, repository=self.repository, example_inputs={"x": X}, output_names=["y"], format=kind
            )
        folder = self.repository / "code" / "1"
        folder.mkdir(parents=True)
        self.config("code").write_text(CODE_CONFIG)
        shutil.copy(self.source("code", "good"), folder / FILES["code"])
        prove(folder, self.serial)
        adopt("code/1", repository=self.repository, allow_code=True)
        self.serve()

    def choose(self) -> str:
        """The next operation, at random."""
        one = self.random.choice
        model = one(list(FILES))
        good, names = self.good(model), self.named(model)
        if len(self.numbers(model)) > 8:
            return f"prune {model} 1"
        refused = [n for m, n in self.broken if m == model and n in self.numbers(model) and n not in names]
        newer = [n for n in good if n > (self.serving(model) or 0)] or good
        fresh = f"adopt {one(['good', 'good', 'bad'])}" if model == "code" else f"export {model} good"
        drop = f"drop {model} {one(['good', 'slow', 'whole', 'broken'])}" if model != "code" else "drop code good"
        command = one([f"promote {model} {one(newer)}", f"promote {model} {one(newer)}", f"rollback {model}"])
        place = one(["journal", "journal", "trial", "start"])
        menu = {
            fresh: 9,
            f"promote {model} {one(newer)}": 8,
            f"promote {model} {one(good)} --unload-old": 3,
            f"rollback {model}": 7,
            drop: 7,
            "drop net wrong": 1,
            "export net bad": 1,
            f"alias {model} {one(['stable', 'canary'])} {one([*names, *names, *good])}": 3,
            f"tag {model}/{one(good)} red": 1,
            f"policy {model} {one(['promote', 'candidate'])}": 3,
            f"prune {model} {one([1, 2])}": 3,
            "doctor": 2,
            f"edit {model} {one(['comment', 'missing', 'garbage'])}": 2,
            f"both {command} and {one([f'promote {model} {one(good)}', f'prune {model} --keep 2', 'rollback net'])}": 4,
            f"kill {place} {self.random.random() ** 3:.3f} {command}": 12,
            f"kill staging {self.random.random():.3f} export net": 2,
        }
        if refused:
            menu |= {f"remove {model} {one(refused)}": 4, f"promote {model} {one(refused)}": 2}
        if self.service is None:
            menu["up"] = 15
        else:
            menu |= {"server": 2, "down": 2, "status": 1}
            menu |= {} if self.inside(model) else {f"stub {model} {one(['SIGKILL', 'SIGSTOP'])}": 5}
            menu |= {one(["supervisor", f"supervisor {command}"]): 2}
        return self.random.choices(list(menu), list(menu.values()))[0]

    def end_all(self) -> None:
        self.ended.set()
        if self.service is not None:
            server = connection.read(self.state)
            self.service.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.service.wait(STOPS_S)
            self.service.kill()
            if server is not None and server.running():
                os.kill(server.server_pid, signal.SIGKILL)


def prove(folder: Path, value: float) -> None:
    """Evidence of a model that is code."""
    tolerances = {"y": Tolerance(kind="fixed", max_abs=1e-6)}
    evidence = Evidence(reference="by hand", batched=True, samples=2, tolerances=tolerances, comparisons={})
    evidences.write(folder, evidence, Golden(inputs={"x": X}, outputs={"y": right(X, value)}))


@pytest.fixture
def life(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Life]:
    ports = {name: free_port() for name in ("http", "grpc", "metrics", "health")}
    one = Life(tmp_path, int(os.environ.get(SEED, "1")), ports)
    print(f"seed {one.seed}")
    try:
        one.begin()
        for model, protocol in [(model, protocol) for model in FILES for protocol in ("http", "grpc") * 2]:
            Caller(one, model, protocol).start()
        yield one
    finally:
        one.end_all()


def test_a_short_mixed_life(life):
    for operation in OPERATIONS:
        life.do(life.choose() if SEED in os.environ else operation)
    assert life.asked > 100
    fires(life)


def fires(life: Life) -> None:
    """Each check finds what must not be."""
    now, serving, junk = (
        time.monotonic(),
        {model: life.serving(model) for model in FILES},
        life.repository / "net" / "junk",
    )
    life.learn()
    life.told(serving)
    assert not life.found, life.found
    life.answers = [Answered(now, now, "net", 99.0), Answered(now, now, "net", None, "refused")]
    life.told(serving)
    life.first = {**life.first, "memory": 0}
    life.held()
    life.values["code", 1] += 1
    life.pinned()
    junk.touch()
    life.found += life.differences()
    junk.unlink()
    for words in ("answered 99.0", "times net: refused", "it held", "code/1 answers", f"left: {junk}"):
        assert any(words in text for text in life.found), words


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_long_mixed_life(life):
    """Twenty minutes of random operations."""
    deadline = time.monotonic() + float(os.environ.get("MIXED_LIFE_SECONDS", "1200"))
    while time.monotonic() < deadline:
        life.do(life.choose())
    assert life.asked > 1000
