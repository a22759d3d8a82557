"""The real perf_analyzer, as `modelport bench --install` brings it, and a repository of tiny models."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from modelport.bench import perf_program
from modelport.bench.perf_program import Program
from modelport.commands.assemble import publish_python_model
from modelport.commands.export import export
from modelport.commands.serve import serve
from modelport.errors import ModelportError
from modelport.server import EmbeddedServer
from modelport.spec import ModelSpec, TensorSpec, dtype_of

# Answers only what it was published with: any other input is an error, which perf_analyzer reports.
STRICT = """
import numpy as np
import triton_python_backend_utils as pb_utils

KNOWN = [[b"\\xc3\\xbc", b""], [b"ab", b"c d"], [b"x" * 300, b"1"]]

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()
            if any(row not in KNOWN for row in text.tolist()):
                error = pb_utils.TritonError(f"not what was recorded: {text.tolist()[:1]}")
                answers.append(pb_utils.InferenceResponse([], error))
                continue
            count = np.array([[sum(map(len, row))] for row in text], np.int64)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("count", count)]))
        return answers
"""
TEXTS = np.array([["ü", ""], ["ab", "c d"], ["x" * 300, "1"]], dtype=object)
COUNTS = np.array([[2], [5], [301]], np.int64)


def modelport(
    *words: object, data: Path, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with its data folder there."""
    command = [sys.executable, "-m", "modelport", *map(str, words)]
    env = {**os.environ, "XDG_DATA_HOME": str(data), "COLUMNS": "200", **variables}
    env.pop("MODELPORT_URL", None)
    return subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=250
    )


@pytest.fixture(scope="session")
def data(root: Path, require: Callable[..., None]) -> Path:
    """A data folder with perf_analyzer; fetched once, and kept in build/ for the next session."""
    folder = root / "build" / "tests-data"
    try:
        perf_program.find(folder / "modelport", path="")
    except ModelportError:
        done = modelport("bench", "--install", data=folder)
        require(f"perf_analyzer ({done.stderr.strip()})", present=done.returncode == 0)
    return folder


@pytest.fixture(scope="session")
def program(data: Path) -> Program:
    return perf_program.find(data / "modelport", path="")


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run("bench", "net", ...)`: the command, in an empty folder; keywords are environment variables."""
    return lambda *words, **variables: modelport(*words, data=data, cwd=tmp_path, **variables)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`scale` (version 1 serves, version 2 is a candidate), which takes rows of any length, and `strict`."""
    place = tmp_path_factory.mktemp("bench")
    folder = place / "repository"
    inputs = {"x": np.arange(12, dtype=np.float32).reshape(4, 3)}
    for factor in (2.0, 3.0):
        onnx.save(_scaled(factor), place / "scale.onnx")
        export(place / "scale.onnx", name="scale", repository=folder, example_inputs=inputs, max_batch_size=8)
    (place / "model.py").write_text(STRICT)
    spec = ModelSpec(
        name="strict",
        inputs=(TensorSpec(name="text", dtype=dtype_of("BYTES"), dims=(2,)),),
        outputs=(TensorSpec(name="count", dtype=dtype_of("INT64"), dims=(1,)),),
        max_batch_size=4,
    )
    publish_python_model(
        spec, [place / "model.py"], example_inputs={"text": TEXTS}, answers={"count": COUNTS}, repository=folder
    )
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[EmbeddedServer]:
    """A server that other commands find; `scale` version 1 and `strict` are loaded."""
    with serve(repository, http_port=0, grpc_port=0, metrics_port=0) as running:
        assert running.failed == {}
        yield running


class _Tls:
    """`behind_tls(url)`: the URL of a proxy that speaks TLS for a server; `.ca` is whom to trust."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self.listeners: list[socket.socket] = []
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
        command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "key"), "-out", str(self.ca)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.ca, folder / "key")

    def __call__(self, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme == "grpc":
            self.context.set_alpn_protocols(["h2"])
        listener = socket.create_server(("localhost", 0))
        self.listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, parts.hostname, parts.port), daemon=True).start()
        return f"{parts.scheme}s://localhost:{listener.getsockname()[1]}"

    def _accept(self, listener: socket.socket, *address: Any) -> None:
        with contextlib.suppress(OSError):  # of the closed listener
            while True:
                caller, _ = listener.accept()
                threading.Thread(target=self._serve, args=(caller, address), daemon=True).start()

    def _serve(self, caller: socket.socket, address: Any) -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(address) as server,
            self.context.wrap_socket(caller, server_side=True) as secured,
        ):
            ends = {secured: server, server: secured}
            while True:
                for end in [secured] if secured.pending() else select.select(list(ends), [], [])[0]:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    ends[end].sendall(data)


@pytest.fixture(scope="module")
def behind_tls(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Tls]:
    require("openssl")
    made = _Tls(tmp_path_factory.mktemp("tls"))
    yield made
    for listener in made.listeners:
        listener.close()


def _scaled(factor: float) -> onnx.ModelProto:
    """y = factor * x, for rows of any length."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "length"]) for name in ("x", "y")]
    weight = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "g", values[:1], values[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
