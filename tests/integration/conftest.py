"""Tools of the tests that start servers: a builder of tiny model repositories, and raw requests on both protocols."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, np_to_triton_dtype, serialize_byte_tensor, triton_to_np_dtype

HTTP_OF_GRPC = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNIMPLEMENTED: 400,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.INTERNAL: 500,
}


@dataclass(frozen=True)
class Sent:
    """One input as it goes over the wire, right or wrong."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, name: str, array: np.ndarray) -> Sent:
        data = serialize_byte_tensor(array).item() if array.dtype == object and array.size else array.tobytes()
        return cls(name, np_to_triton_dtype(array.dtype), array.shape, b"" if array.size == 0 else data)


@dataclass(frozen=True)
class Answer:
    """What came back: `status` as in HTTP, `arrays` by output name, or `error`."""

    status: int
    arrays: Mapping[str, np.ndarray]
    error: str


class Caller:
    """Sends requests over one protocol exactly as they are given; nothing is checked before."""

    def __init__(self, protocol: str, server: Any) -> None:
        self.protocol = protocol
        self._address = (server.http_url if protocol == "http" else server.grpc_url).partition("://")[2]

    def __call__(
        self, model: str, inputs: Mapping[str, np.ndarray] | Iterable[Sent], outputs: Sequence[str] = ()
    ) -> Answer:
        if isinstance(inputs, Mapping):
            inputs = [Sent.of(name, array) for name, array in inputs.items()]
        ask = self._http if self.protocol == "http" else self._grpc
        return ask(model, list(inputs), outputs)

    def _http(self, model: str, inputs: Sequence[Sent], outputs: Sequence[str]) -> Answer:
        head: dict[str, Any] = {
            "inputs": [
                {
                    "name": sent.name,
                    "datatype": sent.datatype,
                    "shape": sent.shape,
                    "parameters": {"binary_data_size": len(sent.data)},
                }
                for sent in inputs
            ],
            "parameters": {"binary_data_output": True},
        }
        if outputs:
            head["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
        text = json.dumps(head).encode()
        connection = http.client.HTTPConnection(self._address, timeout=30)
        try:
            connection.request(
                "POST",
                f"/v2/models/{model}/infer",
                body=text + b"".join(sent.data for sent in inputs),
                headers={"Inference-Header-Content-Length": str(len(text))},
            )
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            return Answer(response.status, {}, body.decode("utf-8", "replace"))
        size = int(response.headers.get("Inference-Header-Content-Length", len(body)))
        arrays, rest = {}, body[size:]
        for output in json.loads(body[:size])["outputs"]:
            length = output.get("parameters", {}).get("binary_data_size", 0)
            arrays[output["name"]] = _array(output["datatype"], output["shape"], rest[:length])
            rest = rest[length:]
        return Answer(200, arrays, "")

    def _grpc(self, model: str, inputs: Sequence[Sent], outputs: Sequence[str]) -> Answer:
        message = service_pb2.ModelInferRequest(model_name=model)
        for sent in inputs:
            message.inputs.add(name=sent.name, datatype=sent.datatype, shape=sent.shape)
            message.raw_input_contents.append(sent.data)
        for name in outputs:
            message.outputs.add(name=name)
        with grpc.insecure_channel(self._address) as channel:
            try:
                reply = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=30)
            except grpc.RpcError as exc:
                return Answer(HTTP_OF_GRPC.get(exc.code(), 599), {}, exc.details())
        arrays = {
            output.name: _array(output.datatype, output.shape, data)
            for output, data in zip(reply.outputs, reply.raw_output_contents, strict=True)
        }
        return Answer(200, arrays, "")


def _array(datatype: str, shape: Sequence[int], data: bytes) -> np.ndarray:
    if datatype == "BYTES":
        return deserialize_bytes_tensor(data).reshape(shape)
    return np.frombuffer(data, triton_to_np_dtype(datatype)).reshape(shape)


class Zoo:
    """Builds a repository of tiny models, right and wrong ones."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def config(self, name: str, backend: str, inputs: str, outputs: str, batch: int = 8, extra: str = "") -> Path:
        """Write `config.pbtxt` and return the folder of version 1.

        `inputs` and `outputs` are like `x:FP32[-1,3] y:STRING[1]`.
        """
        folder = self.root / name / "1"
        folder.mkdir(parents=True)
        text = f'name: "{name}"\nbackend: "{backend}"\nmax_batch_size: {batch}\n'
        for word, tensors in (("input", inputs), ("output", outputs)):
            for tensor, datatype, dims, rest in re.findall(r"(\w+):(\w+)\[([-\d, ]*)\](\{[^}]*\}+)?", tensors):
                rest = rest[1:-1] if rest else ""
                text += f'{word} {{ name: "{tensor}" data_type: TYPE_{datatype} dims: [ {dims} ] {rest} }}\n'
        if "instance_group" not in extra:
            text += "instance_group { kind: KIND_AUTO count: 1 }\n"
        (self.root / name / "config.pbtxt").write_text(
            text + "version_policy { specific { versions: [ 1 ] } }\n" + extra
        )
        return folder

    def onnx(
        self,
        name: str,
        inputs: str,
        outputs: str,
        graph: onnx.GraphProto,
        batch: int = 8,
        extra: str = "",
        file: str = "model.onnx",
    ) -> Path:
        """A model for the backend `onnxruntime`; returns the artefact's path."""
        path = self.config(name, "onnxruntime", inputs, outputs, batch, extra) / file
        path.parent.mkdir(exist_ok=True)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, path)
        return path

    def python(self, name: str, inputs: str, outputs: str, execute: str, batch: int = 8, extra: str = "") -> Path:
        """A model for the backend `python` whose `execute(self, requests)` has this body."""
        path = self.config(name, "python", inputs, outputs, batch, extra) / "model.py"
        body = "\n".join("        " + line for line in execute.strip().splitlines())
        path.write_text(
            "import os, time\nimport numpy as np\nimport triton_python_backend_utils as pb_utils\n\n"
            f"class TritonPythonModel:\n    def execute(self, requests):\n{body}\n"
        )
        return path


def graph(
    nodes: Sequence[onnx.NodeProto], inputs: str, outputs: str, weights: Mapping[str, np.ndarray] | None = None
) -> onnx.GraphProto:
    """An ONNX graph; `inputs` and `outputs` are like `x:FLOAT[n,3] y:STRING[]`, letters being varying axes."""

    def infos(text: str) -> list[onnx.ValueInfoProto]:
        found = re.findall(r"(\w+):(\w+)\[([^\]]*)\]", text)
        return [
            helper.make_tensor_value_info(
                name,
                getattr(TensorProto, dtype),
                [int(d) if d.strip().isdecimal() else d.strip() for d in dims.split(",") if d.strip()],
            )
            for name, dtype, dims in found
        ]

    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    return helper.make_graph(list(nodes), "graph", infos(inputs), infos(outputs), tensors)


@pytest.fixture(scope="session")
def make_graph() -> Callable[..., onnx.GraphProto]:
    """`make_graph(nodes, inputs, outputs, weights)`: see `graph`."""
    return graph


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """An empty repository of this test module."""
    root = tmp_path_factory.mktemp("server") / "model_repository"
    root.mkdir()
    return Zoo(root)


@pytest.fixture(scope="session")
def make_zoo() -> type[Zoo]:
    """`make_zoo(root)`: a builder of models in a repository of one's own."""
    return Zoo


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def caller(protocol: str, server: Any) -> Caller:
    """Sends to the module's `server` over the test's protocol."""
    return Caller(protocol, server)


@pytest.fixture(scope="session")
def sent() -> type[Sent]:
    """`sent(name, datatype, shape, data)`: one input exactly as it goes over the wire."""
    return Sent
