"""From a trained model to a served answer: exported models of every kind, one real server, both protocols."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import modelport
from modelport.cli import main
from modelport.client import Client
from modelport.commands.assemble import publish_ensemble, publish_python_model
from modelport.commands.export import export
from modelport.commands.verify import verify
from modelport.errors import RequestError, VerificationError
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository import switch
from modelport.repository.config import EnsembleStep
from modelport.server import EmbeddedServer
from modelport.spec import ModelSpec, TensorSpec, dtype_of
from modelport.verify import evidence as evidences

F32 = np.float32
Answers = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


class Net(torch.nn.Module):
    def __init__(self, function: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(3, 2)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


class Many(torch.nn.Module):
    """Two inputs, one of them varying beside the batch; outputs of three types."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(20, 4)

    def forward(self, tokens: torch.Tensor, keep: torch.Tensor) -> Any:
        words = self.table(tokens) * keep.unsqueeze(-1)
        return words, {"longest": tokens.max(1).values, "any": keep.any(1, keepdim=True)}


def rows(*shape: int, dtype: Any = F32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


WORDS = {"text": np.array([["ü", f"word {n}"] for n in range(8)])}
TOKENS = np.random.default_rng(0).integers(0, 20, (8, 5))


@dataclass(frozen=True)
class Case:
    """A model to export: how, and the largest batch that must come out."""

    model: Callable[[], Any]
    options: Mapping[str, Any]
    batch: int = 32


def torch_case(
    function: Callable[[Any, torch.Tensor], Any], inputs: np.ndarray, batch: int = 32, **options: Any
) -> Case:
    return Case(lambda: Net(function), {"example_inputs": {"x": inputs}, **options}, batch)


def string_graph() -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n", 2]) for name in ("text", "same")]
    graph = helper.make_graph([helper.make_node("Identity", ["text"], ["same"])], "g", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def keras_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((8, 8, 1), name="image"), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3, "softmax")]
    )


CASES: dict[str, Case] = {
    "torch_onnx": torch_case(lambda net, x: net.linear(x).softmax(1), rows(8, 3), output_names=["scores"]),
    "torch_script": torch_case(lambda net, x: net.linear(x), rows(8, 3), format="torchscript"),
    "keras_onnx": Case(keras_model, {"example_inputs": {"image": rows(8, 8, 8, 1)}, "labels": ["a", "b", "c"]}),
    "half": torch_case(lambda net, x: x * 2 + 1, rows(8, 3, dtype="float16")),
    "bools": torch_case(lambda net, x: ~x, rows(8, 3) > 0),
    "whole_numbers": torch_case(lambda net, x: torch.topk(x, 2).indices, np.random.default_rng(0).permuted(
        np.tile(np.arange(9) * 10**15, (8, 1)), axis=1)),
    "scalar_onnx": torch_case(lambda net, x: x * 2 + 1, rows(8)),
    "scalar_script": torch_case(lambda net, x: net.linear(x).sum(1), rows(8, 3), format="torchscript"),
    "many_onnx": Case(Many, {
        "example_inputs": {"ids": TOKENS, "mask": TOKENS > 3}, "output_names": ["words", "longest", "any"],
        "dynamic_axes": {"ids": {1: "time"}, "mask": {1: "time"}}}),
    "many_script": Case(Many, {
        "example_inputs": {"ids": TOKENS, "mask": TOKENS > 3}, "output_names": ["words", "longest", "any"],
        "dynamic_axes": {"ids": {1: "time"}, "mask": {1: "time"}}, "format": "torchscript"}),
    "strings": Case(string_graph, {"example_inputs": WORDS}),
    "small_batches": Case(string_graph, {"example_inputs": WORDS, "max_batch_size": 2}, 2),
    "one_at_a_time": Case(string_graph, {"example_inputs": WORDS, "max_batch_size": 1}, 1),
    "mixing": torch_case(lambda net, x: x.softmax(0), rows(4, 3), 0),
    "whole_number": torch_case(lambda net, x: x.sum(), rows(4, 3), 0, max_batch_size=0),
}  # fmt: skip


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All the cases, exported; and a python model and an ensemble that ends in one of them."""
    folder = tmp_path_factory.mktemp("served")
    root = folder / "model_repository"
    for name, case in CASES.items():
        model = case.model()
        if isinstance(model, onnx.ModelProto):
            onnx.save(model, folder / f"{name}.onnx")
            model = folder / f"{name}.onnx"
        assert export(model, name=name, repository=root, **case.options).spec.max_batch_size == case.batch
    publish_pipeline(root, folder)
    return root


MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        texts = [pb_utils.get_input_tensor_by_name(request, "text").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("x", np.array(
            [[len(text), text.count(b"a"), 1] for text in column[:, 0]], np.float32))]) for column in texts]
"""


def publish_pipeline(root: Path, folder: Path) -> None:
    def tensor(name: str, dtype: str, size: int) -> TensorSpec:
        return TensorSpec(name=name, dtype=dtype_of(dtype), dims=(size,))

    text, x, scores = tensor("text", "BYTES", 1), tensor("x", "FP32", 3), tensor("scores", "FP32", 2)
    words = np.array([["banana"], ["ü"], [""], ["abc"]])
    counted = np.array([[6, 3, 1], [2, 0, 1], [0, 0, 1], [3, 1, 1]], F32)
    (folder / "model.py").write_text(MODEL)
    publish_python_model(
        ModelSpec(name="counter", inputs=(text,), outputs=(x,), max_batch_size=8),
        [folder / "model.py"], example_inputs={"text": words}, answers={"x": counted}, repository=root,
    )  # fmt: skip
    net = CASES["torch_onnx"].model()
    with torch.no_grad():
        answers = net(torch.from_numpy(counted)).numpy()
    publish_ensemble(
        ModelSpec(name="pipeline", inputs=(text,), outputs=(scores,), max_batch_size=8),
        [
            EnsembleStep(model="counter", inputs={"text": "text"}, outputs={"x": "x"}),
            EnsembleStep(model="torch_onnx", inputs={"x": "x"}, outputs={"scores": "scores"}),
        ],
        example_inputs={"text": words}, answers={"scores": answers}, repository=root,
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(repository, http_port=0, grpc_port=0, metrics_port=0) as running:
        assert running.failed == {}
        yield running


@pytest.mark.parametrize("name", [*CASES, "counter", "pipeline"])
def test_every_model_is_verified_over_both_protocols(server, repository, name):
    """Single, in batches, and concurrently: the served answers are the trained model's."""
    found = verify(name, repository=repository, urls=(server.http_url, server.grpc_url), timeout_s=20)
    assert [(one.where, one.how) for one in found] == [
        (url, how) for url in (server.http_url, server.grpc_url) for how in ("single and batch", "concurrent")
    ]
    assert all(c.ok for one in found for c in one.comparisons.values())


@pytest.mark.parametrize("name", CASES)
def test_the_client_gets_what_the_source_answers(server, repository, name, protocol):
    """Asked as a user would, with the names, types and shapes that the export printed."""
    evidence, golden = evidences.read(repository / name / "1")
    spec = manifests.read(repository / name / "1").spec
    take = slice(0, spec.max_batch_size or None)
    inputs = {n: a[take] if spec.batched else a for n, a in configs.outside(golden.inputs, spec.inputs).items()}
    url = server.http_url if protocol == "http" else server.grpc_url
    with Client(url) as client:
        answers = configs.inside(client.infer(name, inputs=inputs), spec.outputs)
    for tensor, answer in answers.items():
        wanted = golden.outputs[tensor][take] if spec.batched else golden.outputs[tensor]
        assert answer.dtype == wanted.dtype and answer.shape == wanted.shape
        if wanted.dtype.kind == "f":
            assert np.abs(answer.astype("f8") - wanted).max() <= evidence.tolerances[tensor].max_abs
        else:
            assert np.array_equal(answer, wanted)


def test_an_axis_that_varies_takes_other_sizes(server, protocol):
    tokens = np.random.default_rng(1).integers(0, 20, (3, 11))
    with Client(server.http_url if protocol == "http" else server.grpc_url) as client:
        one, two = (client.infer(name, ids=tokens, mask=tokens > 0) for name in ("many_onnx", "many_script"))
    assert one["words"].shape == (3, 11, 4) and np.allclose(one["words"], two["words"], atol=1e-6)
    assert np.array_equal(one["longest"].ravel(), tokens.max(1))


def test_rows_of_a_model_that_mixes_them_are_never_joined(server):
    """It has no batch axis; two requests of other callers must not meet in one run."""
    with Client(server.http_url) as client:
        answer = client.infer("mixing", x=rows(4, 3))["output"]
        shorter = client.infer("mixing", x=rows(4, 3)[:2])["output"]
    assert np.allclose(answer.sum(0), 1) and np.allclose(shorter.sum(0), 1)


def test_labels_are_served(server):
    with Client(server.http_url) as client:
        best = client.classify("keras_onnx", image=rows(8, 8, 8, 1)[0])
    assert "'a'" in repr(best) or "'b'" in repr(best) or "'c'" in repr(best)


def test_a_wrong_request_names_the_tensor(server, protocol):
    with Client(server.http_url if protocol == "http" else server.grpc_url) as client:
        with pytest.raises(RequestError, match="'x'"):
            client.infer("torch_onnx", x=rows(8, 4))
        with pytest.raises(RequestError, match="image"):
            client.infer("torch_onnx", image=rows(8, 3))


def test_the_command_verifies_through_the_server(server, repository, capsys):
    code = main(["verify", "torch_onnx", "-r", str(repository), "-u", server.http_url, "-u", server.grpc_url])
    out = capsys.readouterr().out
    assert code == 0 and out.count("concurrent") == 2 and server.grpc_url in out


def test_a_server_that_answers_something_else_is_found(server, repository, tmp_path):
    """The evidence is another model's: the same tensors, other weights."""
    other = tmp_path / "model_repository"
    case = CASES["torch_onnx"]
    model = case.model()
    with torch.no_grad():
        model.linear.weight.mul_(1.01)
    export(model, name="torch_onnx", repository=other, **case.options)
    with pytest.raises(VerificationError) as caught:
        verify("torch_onnx", repository=other, urls=(server.http_url,))
    assert caught.value.max_abs_error > caught.value.tolerance > 0 and server.http_url in caught.value.what


def test_a_version_that_is_not_served_is_one_clear_error(server, repository, capsys):
    case = CASES["torch_script"]
    try:
        export(case.model(), name="torch_script", repository=repository, **case.options)
        command = ["verify", "torch_script/2", "-r", str(repository), "-u", server.http_url]
        code = main(command)
        assert code in (32, 33, 53) and "version 2" in capsys.readouterr().err, "it is a candidate"
        config, known = switch.read(repository, "torch_script")
        configs.set_versions(config, [1, 2])
        switch.write(repository, "torch_script", config, known)
        server.load("torch_script")
        assert main(command) == 0
    finally:
        capsys.readouterr()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository with one small model."""
    onnx.save(number_graph(), tmp_path / "m.onnx")
    export(tmp_path / "m.onnx", name="double", repository=tmp_path / "models", example_inputs={"x": rows(8, 2)})
    return tmp_path / "models"


def number_graph() -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_program_serves_until_it_is_asked_to_stop(small, number, require):
    """It prints the URLs and a line for curl that works, and ends with 0."""
    require("curl")
    command = [Path(sys.executable).parent / "modelport", "serve", "-r", small]
    ports = [word for kind in ("http", "grpc", "metrics") for word in (f"--{kind}-port", "0")]
    process = subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        curl = next(line for line in lines if line.strip().startswith("curl "))
        done = subprocess.run(shlex.split(curl), capture_output=True, text=True, timeout=20, check=True)
        asked = json.loads(shlex.split(curl)[-1])["inputs"][0]["data"]
        assert json.loads(done.stdout)["outputs"][0]["data"] == pytest.approx([2 * value for value in asked])
        assert [word in "".join(lines) for word in ("http://127.0.0.1:", "grpc://127.0.0.1:", "/metrics")] == [True] * 3
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0 and "Traceback" not in err
    finally:
        process.kill()
        process.communicate()


def test_serving_with_with_serves_what_python_asked_for(small):
    """`with modelport.serve(...) as server:`"""
    with modelport.serve(small, http_port=0, grpc_port=0, metrics_port=0) as server, Client(server.grpc_url) as client:
        assert client.infer("double", x=np.array([1, 2], F32))["y"].tolist() == [2, 4]
    assert not server.running
