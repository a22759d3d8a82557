"""One Triton server and one gateway with TLS for all tests of what the gateway lets through."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from onnx import helper
from tritonclient.grpc import service_pb2

from modelport.gateway import development_certificate
from modelport.gateway.gateway import Gateway
from modelport.gateway.keys import issue
from modelport.gateway.settings import Settings, Upstream
from modelport.server import EmbeddedServer

BODY_BYTES = 2 << 20
BODY_S = 1.5
SECRET_TEXT = "on purpose /usr/lib/secret.py"
MODELS = ("double", "pair", "echo", "free", "raises", "careful")
ALLOWED = tuple(name for name in MODELS if name != "free")


@dataclass
class Said:
    """What came back: the status as in HTTP, the text of an error and its code, the headers."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])

    @property
    def code(self) -> str:
        return str(self.json["code"])


class Place:
    """A server or a gateway, spoken to without any check of what is sent."""

    def __init__(self, host: str, port: int, grpc_port: int, *, ca: bytes = b"", token: str = "") -> None:
        self.host, self.port, self.token = host, port, token
        self._ca = ca
        self.grpc_target = f"{host}:{grpc_port}"

    def connect(self, timeout_s: float = 10.0, *, alpn: str = "http/1.1") -> socket.socket:
        """A connection, over TLS where the place has it."""
        plain = socket.create_connection((self.host, self.port), timeout=timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._ca:
            return plain
        context = ssl.create_default_context(cadata=self._ca.decode())
        context.set_alpn_protocols([alpn])
        return context.wrap_socket(plain, server_hostname=self.host)

    def head(self, method: str, path: str, **headers: Any) -> bytes:
        """The first lines of a request over HTTP/1.1, with the key; `_` in a header's name stands for `-`."""
        lines = [f"{method} {path} HTTP/1.1", "host: gateway"]
        if self.token and "authorization" not in headers:
            lines.append(f"authorization: Bearer {self.token}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value is not None]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def raw(self, *parts: bytes, timeout_s: float = 10.0, method: str = "POST") -> Said:
        """Send bytes as they are, and read one answer."""
        with contextlib.closing(self.connect(timeout_s)) as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
                for part in parts:
                    sock.sendall(part)
            response = http.client.HTTPResponse(sock, method=method)
            response.begin()
            return Said(response.status, response.read(), {k.lower(): v for k, v in response.getheaders()})

    def http(self, method: str, path: str, body: bytes | None = None, **headers: Any) -> Said:
        """One request over HTTP/1.1."""
        if body is not None and "content_length" not in headers:
            headers["content_length"] = len(body)
        return self.raw(self.head(method, path, **headers), body or b"", method=method)

    def infer(self, model: str, request: Any, **headers: Any) -> Said:
        """An inference with a JSON body, given as bytes or as what JSON is made from."""
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        return self.http("POST", f"/v2/models/{model}/infer", body, **headers)

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A gRPC channel."""
        if self._ca:
            made = grpc.secure_channel(self.grpc_target, grpc.ssl_channel_credentials(self._ca))
        else:
            made = grpc.insecure_channel(self.grpc_target)
        with made as channel:
            yield channel

    def metadata(self, *more: tuple[str, str]) -> list[tuple[str, str]]:
        """The key as gRPC metadata, and more."""
        return [*([("authorization", f"Bearer {self.token}")] if self.token else []), *more]

    def call(
        self, method: str, message: Any, *more: tuple[str, str], timeout_s: float = 10.0, **options: Any
    ) -> grpc.Call | Exception:
        """One gRPC call with a message or its bytes; the answer's bytes, or the error that was raised."""
        content = message if isinstance(message, bytes) else message.SerializeToString()
        with self.channel() as channel:
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}", lambda x: x, lambda x: x)
            try:
                return call(content, timeout=timeout_s, metadata=self.metadata(*more), **options)
            except grpc.RpcError as error:
                return error


class Setup(SimpleNamespace):
    """The gateway, the server behind it, and the places where each is asked; `everything` has a key for all models."""

    gateway: Gateway
    server: EmbeddedServer
    front: Place
    everything: Place
    direct: Place
    token: str
    ca_file: Path

    def asked(self) -> int:
        """Requests that Envoy has sent to Triton until now."""
        text = self.gateway.admin.ask("GET", r"/stats?filter=^cluster\.triton_(http|grpc)\.upstream_rq_total$")
        return sum(int(line.rpartition(":")[2]) for line in text.splitlines())

    @contextlib.contextmanager
    def peak(self, *pids: int) -> Iterator[Callable[[], int]]:
        """Gives a function that tells how many bytes a process (Triton's, and ours) has had more than at the start."""
        pids = pids or (self.server.pid, self.gateway.pid)
        for pid in pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        before = sum(map(_peak, pids))
        yield lambda: sum(map(_peak, pids)) - before


def _peak(pid: int) -> int:
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) << 10


def golden(place: Place) -> bool:
    """Whether a right request gets the right answer, over HTTP and gRPC."""
    said = place.infer("double", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]})
    message = service_pb2.ModelInferRequest(model_name="double", raw_input_contents=[np.arange(4, dtype="f").tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    answer = place.call("ModelInfer", message)
    return (
        said.status == 200
        and said.json["outputs"][0]["data"] == [2, 4, 6, 8]
        and isinstance(answer, bytes)
        and (2 * np.arange(4, dtype="f")).tobytes() in answer
    )


def build(zoo: Any, make_graph: Any) -> None:
    """Small models: a compiled one for each kind of input, and some in Python that fail or look at what they get."""
    double = make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "x:FLOAT[n,4]", "y:FLOAT[n,4]")
    zoo.onnx("double", "x:FP32[4]", "y:FP32[4]", double)
    add = make_graph([helper.make_node("Add", ["a", "b"], ["s"])], "a:FLOAT[n,t] b:FLOAT[n,t]", "s:FLOAT[n,t]")
    zoo.onnx("pair", "a:FP32[-1] b:FP32[-1]", "s:FP32[-1]", add)
    same = make_graph([helper.make_node("Identity", ["x"], ["y"])], "x:STRING[n,1]", "y:STRING[n,1]")
    zoo.onnx("echo", "x:STRING[1]", "y:STRING[1]", same)
    free = make_graph([helper.make_node("Identity", ["x"], ["y"])], "x:FLOAT[a,b]", "y:FLOAT[a,b]")
    zoo.onnx("free", "x:FP32[-1,-1]", "y:FP32[-1,-1]", free, batch=0)
    zoo.python("raises", "x:FP32[1]", "y:FP32[1]", f"raise ValueError({SECRET_TEXT!r})")
    right = "pb_utils.Tensor('y', 2 * pb_utils.get_input_tensor_by_name(r, 'x').as_numpy())"
    zoo.python("careful", "x:FP32[4]", "y:FP32[4]", f"return [pb_utils.InferenceResponse([{right}]) for r in requests]")


@pytest.fixture(scope="session")
def setup(tmp_path_factory: pytest.TempPathFactory, make_graph: Any, make_zoo: Any) -> Iterator[Setup]:
    """The server and the gateway; the key is for all models but `free`."""
    repository = tmp_path_factory.mktemp("g") / "models"  # short: sockets lie beside it
    repository.mkdir()
    build(make_zoo(repository), make_graph)
    issued = issue.create(repository, "tests", ALLOWED, expires_s=3600, limits={}, now=int(time.time()))
    issued_all = issue.create(repository, "root", ("*",), expires_s=3600, limits={}, now=int(time.time()))
    own = development_certificate.ensure(repository)
    with EmbeddedServer(repository, http_port=0, grpc_port=0, metrics_port=0, log_verbose=1) as server:
        ports = [int(url.rpartition(":")[2]) for url in (server.http_url, server.grpc_url)]
        settings = Settings(
            address="0.0.0.0",
            port=0,
            certificate=own.certificate,
            key=own.key,
            upstreams=(Upstream(host="127.0.0.1", http_port=ports[0], grpc_port=ports[1]),),
            body_bytes=BODY_BYTES,
            body_s=BODY_S,
        )
        gateway = Gateway(repository, settings)
        gateway.start()
        try:
            port = gateway.settings.port
            ca = Path(own.ca).read_bytes() if own.ca else b""
            yield Setup(
                gateway=gateway,
                server=server,
                front=Place("localhost", port, port, ca=ca, token=issued.token),
                everything=Place("localhost", port, port, ca=ca, token=issued_all.token),
                direct=Place("127.0.0.1", *ports),
                token=issued.token,
                ca_file=own.ca,
            )
        finally:
            gateway.stop()


@pytest.fixture
def front(setup: Setup) -> Place:
    """The gateway, with a valid key."""
    return setup.front


@pytest.fixture
def everything(setup: Setup) -> Place:
    """The gateway, with a key for all models."""
    return setup.everything


@pytest.fixture(autouse=True)
def well(setup: Setup) -> Iterator[None]:
    """After each test the service answers as before, and both processes are the same."""
    pids = setup.server.pid, setup.gateway.pid
    yield
    assert golden(setup.everything)
    assert (setup.server.pid, setup.gateway.pid) == pids
    assert setup.gateway.running


@pytest.fixture
def direct(setup: Setup) -> Place:
    """Triton itself."""
    return setup.direct
