"""What models say of themselves: documents at the gateway whose examples work, and clients written for each model."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from openapi_spec_validator import validate

from modelport.client import AsyncClient, Client
from modelport.commands.describe import client_code, openapi_document
from modelport.commands.tagging import alias
from modelport.gateway.keys import issue
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.manifest import Manifest
from modelport.repository.publish import publish, staged
from modelport.spec import ModelSpec, TensorSpec, dtype_of
from modelport.verify import evidence as evidences
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.tolerance import Tolerance

ROWS = 4
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.random((5120, 3), dtype=np.float32)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LABELS = ("cat", 'the "dog"', "owl's")
ONNX = {"FP32": TensorProto.FLOAT, "FP16": TensorProto.FLOAT16, "BYTES": TensorProto.STRING}


def floats(*shape: int) -> np.ndarray:
    return RANDOM.random(shape, dtype=np.float32)


@dataclass(frozen=True)
class Kind:
    """A model: tensors as `name:TYPE[dims]`, its nodes, and golden arrays."""

    inputs: str
    outputs: str
    nodes: Sequence[Any]
    golden: dict[str, np.ndarray]
    answers: dict[str, np.ndarray]
    batch: int = 8
    labels: tuple[str, ...] = ()


def spec_of(name: str, kind: Kind) -> ModelSpec:
    def tensors(text: str) -> tuple[TensorSpec, ...]:
        parts = (word.rpartition(":") for word in text.replace("[", " ").replace("]", "").split("|"))
        return tuple(
            TensorSpec(name=tensor, dtype=dtype_of(rest.split()[0]), dims=tuple(map(int, rest.split()[1].split(","))))
            for tensor, _, rest in parts
        )

    return ModelSpec(name=name, inputs=tensors(kind.inputs), outputs=tensors(kind.outputs), max_batch_size=kind.batch)


def kinds() -> dict[str, Kind]:
    image, a, b, free = floats(ROWS, 64, 80), floats(ROWS, 5), floats(ROWS, 5), [floats(3, 2) for _ in range(2)]
    half = RANDOM.random((ROWS, 2)).astype(np.float16)
    x, one = floats(ROWS, 2), floats(ROWS, 1)
    texts = np.array([["a"], ["größer"], ['"quoted"\\'], ["😀"]], dtype=object)
    scores = [helper.make_node("Flatten", ["image"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["scores"])]
    add = helper.make_node
    return {
        "scores": Kind(
            "image:FP32[64,80]",
            "scores:FP32[3]",
            scores,
            {"image": image},
            {"scores": image.reshape(ROWS, -1) @ WEIGHTS},
            labels=LABELS,
        ),
        "pair": Kind(
            "a:FP32[-1]|b:FP32[-1]", "s:FP32[-1]", [add("Add", ["a", "b"], ["s"])], {"a": a, "b": b}, {"s": a + b}
        ),
        "echo.text": Kind(
            "text:BYTES[1]", "class:BYTES[1]", [add("Identity", ["text"], ["class"])], {"text": texts}, {"class": texts}
        ),
        "free-axes": Kind(
            "x:0:FP32[-1,2]|x.0:FP32[-1,2]",
            "y/np:FP32[-1,2]|np:FP32[-1,2]",
            [add("Add", ["x:0", "x.0"], ["y/np"]), add("Sub", ["x:0", "x.0"], ["np"])],
            {"x:0": free[0], "x.0": free[1]},
            {"y/np": free[0] + free[1], "np": free[0] - free[1]},
            batch=0,
        ),
        "linear_regression": Kind(
            "x:FP32[1]",
            "y:FP32[1]",
            [
                add("Add", ["x", "x"], ["twice"]),
                add("Constant", [], ["one"], value_float=1.0),
                add("Add", ["twice", "one"], ["y"]),
            ],
            {"x": one},
            {"y": 2 * one + 1},
        ),
        "half": Kind(
            "x:FP32[2]",
            "y:FP16[2]",
            [add("Cast", ["x"], ["y"], to=TensorProto.FLOAT16)],
            {"x": x},
            {"y": x.astype(np.float16)},
        ),
        "raw": Kind("x:FP16[2]", "y:FP16[2]", [add("Identity", ["x"], ["y"])], {"x": half}, {"y": half}),
    }


KINDS = kinds()


def publish_kind(root: Any, name: str, kind: Kind) -> None:
    spec, [label_output] = spec_of(name, kind), [next(iter(kind.answers))]
    infos = [
        [
            helper.make_tensor_value_info(
                t.name,
                ONNX[t.dtype.triton],
                [*(["n"] if kind.batch else []), *(f"d{i}" if d < 0 else d for i, d in enumerate(t.dims))],
            )
            for t in group
        ]
        for group in (spec.inputs, spec.outputs)
    ]
    weights = [numpy_helper.from_array(WEIGHTS, "w")] if name == "scores" else []
    graph = helper.make_graph(list(kind.nodes), "graph", *infos, weights)
    files = {label_output: "labels.txt"} if kind.labels else {}
    config = configs.build(spec, backend="onnxruntime", filename="model.onnx", versions=[], label_files=files)
    evidence = Evidence(
        reference="by hand",
        batched=kind.batch > 0,
        samples=ROWS,
        tolerances={output: Tolerance(kind="fixed", max_abs=1e-3) for output in kind.answers},
        comparisons={},
    )

    def finish(staging: Any, version: int) -> None:
        about = {"format": "onnx", "backend": "onnxruntime", "framework": "by hand"}
        made = "2026-01-02T03:04:05+00:00"
        files = manifests.records(staging)
        manifests.write(staging, Manifest(spec=spec, version=version, created=made, files=files, **about))

    with staged(root, name) as staging:
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), staging / "model.onnx")
        (staging / "card.md").write_text(f'# The model {name}\n\nIt tells """nothing""" of C:\\new\\users.\n')
        evidences.write(staging, evidence, Golden(inputs=kind.golden, outputs=kind.answers))
        publish(root, staging, config, finish=finish, labels={"labels.txt": kind.labels} if kind.labels else None)


@pytest.fixture(scope="module")
def server(shelf: Any, make_server: Callable[..., Any]) -> Any:
    for name, kind in KINDS.items():
        publish_kind(shelf.root, name, kind)
    shelf.publish("hidden")
    return make_server(models=(*KINDS, "hidden"))


class Asked:
    """The gateway, asked with a key."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token

    def __call__(self, path: str, body: str | None = None) -> tuple[int, Any]:
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            connection.request("GET" if body is None else "POST", path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        is_json = answer.headers["content-type"] == "application/json"
        return answer.status, json.loads(content) if is_json else content


@pytest.fixture(scope="module")
def front(shelf: Any, server: Any, make_gateway: Callable[..., Any]) -> Any:
    return make_gateway(server)


@pytest.fixture(scope="module")
def ask(front: Any, shelf: Any) -> Callable[..., Asked]:
    """`ask("pair", ...)`: with a key for these models; for none, without a key."""

    def make(*models: str) -> Asked:
        if not models:
            return Asked(front.http_url, "")
        now = int(time.time())
        made = issue.create(shelf.root, "tests", models, expires_s=3600, limits={}, now=now)
        front.gateway.refresh()
        return Asked(front.http_url, made.token)

    return make


@pytest.fixture(scope="module")
def everything(ask: Callable[..., Asked]) -> Asked:
    return ask("*")


def operation(document: Any, name: str) -> Any:
    return document["paths"][f"/v2/models/{name}/infer"]["post"]


def program(description: str) -> str:
    return description.partition("```python\n")[2].partition("```")[0]


@pytest.mark.parametrize("name", list(KINDS))
def test_each_document_is_valid_and_its_example_is_answered_as_it_stands(name, everything, shelf):
    status, document = everything(f"/v2/models/{name}/openapi.json")
    assert status == 200 and document == openapi_document(name, repository=shelf.root)
    validate(document)
    described = jsonschema.Draft202012Validator(document["components"]["schemas"]["Metadata"])
    described.validate(everything(f"/v2/models/{name}")[1])
    assert everything(f"/v2/models/{name}/ready")[0] == 200
    asked = operation(document, name)
    body = asked["requestBody"]["content"]["application/json"]
    if name == "raw":  # JSON has no half precision
        assert "example" not in body and "bytes" in json.dumps(document["components"]["schemas"]["InferRequest"])
        return
    sent = body.get("example")
    if sent is None:
        assert name == "scores"
        command = [sys.executable, "-c", program(asked["description"])]
        sent = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout)
    jsonschema.Draft202012Validator(document["components"]["schemas"]["InferRequest"]).validate(sent)
    status, answer = everything(f"/v2/models/{name}/infer", json.dumps(sent))
    assert status == 200, answer
    content = asked["responses"]["200"]["content"]
    if name == "half":
        assert list(content) == ["application/octet-stream"] and isinstance(answer, bytes)
        return
    shown = content["application/json"]["example"]
    response = jsonschema.Draft202012Validator(document["components"]["schemas"]["InferResponse"])
    response.validate(answer)
    response.validate(shown)
    if name != "scores":  # whose request is filled with zeros
        for told, got in zip(shown["outputs"], answer["outputs"], strict=True):
            assert (told["name"], told["datatype"], told["shape"]) == (got["name"], got["datatype"], got["shape"])
            assert told["data"] == (got["data"] if told["datatype"] == "BYTES" else pytest.approx(got["data"]))


def test_a_request_that_the_document_forbids_is_refused_by_the_gateway(everything):
    """The schema is no stricter and no laxer than the gate, in what both look at."""
    _, document = everything("/v2/models/pair/openapi.json")
    request = jsonschema.Draft202012Validator(document["components"]["schemas"]["InferRequest"])
    right = operation(document, "pair")["requestBody"]["content"]["application/json"]["example"]
    wrong = [
        {},
        {"inputs": right["inputs"][:1]},
        {"inputs": [*right["inputs"], right["inputs"][0]]},
        {"inputs": [{**right["inputs"][0], "name": "c"}, right["inputs"][1]]},
        {"inputs": [{**right["inputs"][0], "datatype": "FP64"}, right["inputs"][1]]},
        {"inputs": [{**right["inputs"][0], "shape": [9, 5]}, right["inputs"][1]]},
        {"inputs": [{**right["inputs"][0], "shape": [5]}, right["inputs"][1]]},
        {"inputs": [{**right["inputs"][0], "data": ["a"] * 5}, right["inputs"][1]]},
    ]
    for one in wrong:
        assert not request.is_valid(one), one
        status, answer = everything("/v2/models/pair/infer", json.dumps(one))
        schema = document["components"]["responses"][f"Refused{status}"]["content"]["application/json"]["schema"]
        assert status == 400, (one, answer)
        jsonschema.validate(answer, schema)


def test_a_key_sees_the_documents_of_its_models_only(ask, everything):
    own = ask("pair", "echo.text", "nothing")
    assert own("/v2/models/pair/openapi.json")[0] == 200
    for model in ("hidden", "free-axes"):
        assert own(f"/v2/models/{model}/openapi.json") == (
            403,
            {"code": "forbidden", "error": "this key does not allow that"},
        )
    assert own("/v2/models/nothing/openapi.json")[0] == everything("/v2/models/nothing/openapi.json")[0] == 404
    assert own("/openapi/pair.json")[0] == own("/v2/models/pair/versions/1/openapi.json")[0] == 404
    assert own("/v2/models/pair/openapi.json", "{}")[0] == own("/v2/openapi.json", "{}")[0] == 404
    assert ask()("/v2/models/pair/openapi.json")[0] == ask()("/v2/openapi.json")[0] == 401


def test_the_index_leads_to_the_documents_that_the_key_allows(ask, everything):
    own = ask("pair", "echo.text", "nothing")
    status, index = own("/v2/openapi.json")
    assert status == 200 and list(index["paths"]) == ["/v2/models/echo.text/infer", "/v2/models/pair/infer"]
    for path, item in index["paths"].items():
        file, _, pointer = item["$ref"].partition("#/")
        _, document = own(f"/v2/{file}")
        for part in pointer.split("/"):
            document = document[part.replace("~1", "/").replace("~0", "~")]
        assert document == own(f"/v2/models/{path.split('/')[3]}/openapi.json")[1]["paths"][path]
    assert len(everything("/v2/openapi.json")[1]["paths"]) == len(KINDS) + 1
    validate({**index, "paths": {}})


def test_a_document_follows_its_model(everything, front, shelf):
    """What an alias names is told as soon as it can be asked for; a model that is gone has no document."""

    def versions() -> list[str]:
        document = everything("/v2/models/hidden/openapi.json")[1]
        return document["components"]["parameters"]["version"]["schema"]["enum"]

    assert versions() == ["1"]
    alias("hidden", {"stable": 1}, repository=shelf.root)
    front.gateway.refresh()
    assert versions() == ["1", "stable"]
    written = front.gateway.folder / "openapi"
    before = (written / "pair.json").stat().st_mtime_ns
    config = shelf.root / "hidden" / "config.pbtxt"
    text = config.read_text()
    config.unlink()
    front.gateway.refresh()
    assert everything("/v2/models/hidden/openapi.json")[0] == 404 and not (written / "hidden.json").exists()
    config.write_text(text)
    front.gateway.refresh()
    assert versions() == ["1", "stable"]
    assert (written / "pair.json").stat().st_mtime_ns == before, "what has not changed is not written again"
    assert (written / "pair.json").stat().st_mode & 0o077 == 0


def test_documents_are_given_while_no_server_answers(make_gateway, free_port, shelf, server, everything, tmp_path):
    down = SimpleNamespace(http_url=f"http://127.0.0.1:{free_port()}", grpc_url=f"grpc://127.0.0.1:{free_port()}")
    alone = Asked(make_gateway(down, folder=tmp_path / "gateway").http_url, everything.token)
    assert alone("/v2/models/pair")[0] == 503
    assert alone("/v2/models/pair/openapi.json") == everything("/v2/models/pair/openapi.json")


@pytest.fixture(scope="module")
def written(shelf: Any, server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """`written(name)`: the client for a model, as a module."""
    folder = tmp_path_factory.mktemp("clients")

    def make(name: str) -> Any:
        path = folder / f"described_{len(list(folder.iterdir()))}.py"
        path.write_text(client_code(name, repository=shelf.root))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # dataclasses look there
        spec.loader.exec_module(module)
        return module

    yield make
    for name in [name for name in sys.modules if name.startswith("described_")]:
        del sys.modules[name]


FIELDS = {"x:0": "x_0", "x.0": "x_0_", "y/np": "y_np", "np": "np_", "class": "class_"}


@pytest.mark.parametrize("name", list(KINDS))
def test_a_written_client_gets_the_golden_answers(name, written, server, front, everything):
    """Of a server over gRPC, and of the gateway over HTTP within an event loop; of a batch, and of one sample."""
    kind, code = KINDS[name], written(name)

    def inputs(arrays: dict[str, np.ndarray]) -> Any:
        return code.Inputs(**{FIELDS.get(tensor, tensor): array for tensor, array in arrays.items()})

    def check(answer: Any, wanted: dict[str, np.ndarray]) -> None:
        for tensor, right in wanted.items():
            got = getattr(answer, FIELDS.get(tensor, tensor))
            assert got.shape == right.shape and got.dtype == right.dtype
            assert np.array_equal(got, right) if right.dtype == object else np.allclose(got, right, rtol=1e-4)

    with Client(server.grpc_url) as client:
        check(code.infer(client, inputs(kind.golden), timeout_s=10), kind.answers)
        if kind.batch:
            first = [{tensor: array[0] for tensor, array in group.items()} for group in (kind.golden, kind.answers)]
            check(code.infer(client, inputs(first[0]), version=1), first[1])

    async def ask_gateway() -> Any:
        async with AsyncClient(front.http_url, token=everything.token) as client:
            return await code.infer_async(client, inputs(kind.golden))

    answer = asyncio.run(ask_gateway())
    check(answer, kind.answers)
    if kind.labels:
        best = kind.answers["scores"].argmax(axis=1)
        assert code.LABELS == LABELS and answer.best_labels() == [LABELS[index] for index in best]


def test_what_the_page_shows_works_as_it_stands_there(root, shelf, front, ask, tmp_path):
    """docs/describe.md; only the gateway of the test has no TLS."""
    blocks = BLOCK.findall((root / "docs" / "describe.md").read_text())
    commands = [text if language == "sh" else f"python - <<'END'\n{text}END\n" for language, text in blocks]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    places = {"MODELPORT_REPOSITORY": str(shelf.root), "MODELPORT_URL": front.http_url}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "".join(commands).replace(' --cacert "$MODELPORT_CA"', "")],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "MODELPORT_TOKEN": ask("linear_regression").token, **places},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"$ref":"models/linear_regression/openapi.json#' in done.stdout and done.stdout.endswith("[[2.]\n [4.]]\n")
    first = 2 * float(KINDS["linear_regression"].golden["x"][0, 0]) + 1
    [shown] = re.findall(r"'data': \[([\d.]+)\]", done.stdout)
    assert float(shown) == pytest.approx(first)
    online, offline = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("linear_regression", "offline"))
    assert offline.pop("servers") == [{"url": "https://localhost:8443"}] and online == offline
