"""The OpenAPI document of a model: valid for whatever is known of it, and true to the gateway's own page of errors."""

from __future__ import annotations

import os
import re

import jsonschema
import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from modelport.describe import example as examples
from modelport.describe import facts as known
from modelport.describe import openapi, schemas
from modelport.describe.refusals import REFUSALS
from modelport.describe.tensors import Tensor
from modelport.errors import ModelNotFoundError, VersionNotFoundError
from modelport.spec import DTYPES, ModelSpec, TensorSpec, dtype_of
from modelport.verify import evidence as evidences
from modelport.verify.evidence import Evidence, Golden

X = TensorSpec(name="x", dtype=dtype_of("FP32"), dims=(2,))


def test_a_document_is_valid_for_every_type_and_any_card(facts):
    types = [d.triton for d in DTYPES] + ["BF16", "INVALID"]
    every = facts(
        [(f"in:{word}", word, (-1, 3)) for word in types],
        [(f"out/{word}", word, ()) for word in types],
        name="a.b-c",
        card="# T\n\n{curly} $ref \x00 ~1 / \ud7ff",
    )
    document = openapi.document(every, url="https://host:8443/")
    validate(document)
    assert document["servers"] == [{"url": "https://host:8443"}]
    assert "servers" not in openapi.document(every)


def test_what_is_no_document_is_found(facts):
    document = openapi.document(facts([("x", "FP32", (2,))], [("y", "FP32", (2,))]))
    document["paths"]["/v2/models/net/ready"]["get"]["operationId"] = "infer_net"
    document["components"]["parameters"]["version"]["required"] = False
    assert len(list(OpenAPIV31SpecValidator(document).iter_errors())) >= 2


def test_the_refusals_are_those_of_the_callers_page(root):
    page = (root / "docs" / "callers.md").read_text()
    rows = re.findall(r"^\| ([\d, ]+) \|[^|]*\|([^|]*)\|", page, re.MULTILINE)
    told = {
        (int(s), word)
        for statuses, words in rows
        for s in statuses.split(", ")
        for word in re.findall(r"`(\w+)`", words)
    }
    told -= {(502, "overloaded")}  # the page has one line for 502 and 503
    assert {(one.status, code) for one in REFUSALS for code in one.codes} == told


@pytest.mark.parametrize(
    ("datatype", "right", "wrong"),
    [
        ("BOOL", [True], [1, "a"]),
        ("UINT8", [0, 255], [-1, 256, 0.5]),
        ("INT8", [-128, 127], [128]),
        ("INT64", [-(2**63), 2**63 - 1], [2**63]),
        ("UINT64", [2**64 - 1], [-1]),
        ("FP32", [1, 0.5, -1e30], ["1", True]),
        ("BYTES", ["a", ""], [1]),
    ],
)
def test_a_value_has_the_range_of_its_type(datatype, right, wrong):
    validator = jsonschema.Draft202012Validator(schemas.value(datatype))
    assert all(validator.is_valid(one) for one in right)
    assert not any(validator.is_valid(one) for one in wrong)


def test_labels_and_shapes_are_told(facts):
    labels = tuple(f"label {number}" for number in range(30))
    image = Tensor(name="image", datatype="UINT8", dims=(28, -1), optional=True)
    told = facts([image, ("x", "FP32", (2,))], [Tensor(name="y", datatype="FP32", dims=(30,), labels=labels)])
    parts = openapi.document(told)["components"]["schemas"]
    inputs = parts["InferRequest"]["properties"]["inputs"]
    assert inputs["items"]["oneOf"][0]["description"] == "UINT8 of the shape [1 to 8, 28, any]. May be left out."
    assert (inputs["minItems"], inputs["maxItems"]) == (1, 2)
    answer = parts["InferResponse"]["properties"]["outputs"]["items"]
    assert answer["x-labels"] == list(labels) and "label 19, and 10 more" in answer["description"]


def written(folder, inputs, *, batched=True):
    outputs = {"y": next(iter(inputs.values()))}
    folder.mkdir()
    about = {"batched": batched, "samples": 3, "tolerances": {}, "comparisons": {}}
    evidences.write(folder, Evidence(reference="by hand", **about), Golden(inputs=inputs, outputs=outputs))
    return folder


def read(folder, datatype="FP32", dims=(2,), spec=X, batched=True):
    tensor, answer = (Tensor(name=name, datatype=datatype, dims=dims) for name in ("x", "y"))
    model = ModelSpec(name="net", inputs=(spec,), outputs=(), max_batch_size=8)
    return examples.read(folder, model, [tensor], [answer], batched=batched)


def test_the_example_is_the_first_row_that_json_can_hold(tmp_path):
    x = np.array([[np.nan, 1], [np.inf, 2], [0.1, 1e-7]], np.float32)
    found = read(written(tmp_path / "1", {"x": x}))
    tensor = {"datatype": "FP32", "shape": [1, 2], "data": [0.1, 1e-07]}
    assert found.request == {"inputs": [{"name": "x", **tensor}]}
    assert found.response["outputs"] == [{"name": "y", **tensor}]
    bad = np.array([["\udcff"], ["\udcff"]], dtype=object)
    assert read(written(tmp_path / "2", {"x": bad}), "BYTES", (1,)) is None
    assert read(written(tmp_path / "3", {"x": x[:2]})) is None


def test_there_is_no_example_that_the_model_would_not_take_now(tmp_path):
    """Its owner may have changed the configuration since."""
    folder = written(tmp_path / "1", {"x": np.zeros((3, 2), np.float32)})
    assert read(folder) and read(folder, dims=(-1,))
    assert not read(folder, dims=(3,)) and not read(folder, datatype="FP64") and not read(folder, batched=False)
    assert not read(tmp_path / "nothing")


def test_a_scalar_is_shown_as_callers_send_it(tmp_path):
    scalar = TensorSpec(name="x", dtype=dtype_of("INT64"), dims=())
    found = read(written(tmp_path / "1", {"x": np.array([7, 8, 9])}), "INT64", (1,), scalar)
    assert found.request["inputs"][0]["shape"] == [1, 1] and found.request["inputs"][0]["data"] == [7]


def test_facts_are_read_from_a_published_version(shelve, shelf):
    with pytest.raises(ModelNotFoundError):
        known.read(shelf.parent, "net")
    shelve()
    found = known.read(shelf, "net")
    assert (found.version, found.versions, found.max_batch_size, found.title) == (1, ("1",), 32, "net")
    assert [(t.name, t.datatype, t.dims) for t in (*found.inputs, *found.outputs)] == [
        ("x", "FP32", (3,)),
        ("y", "FP32", (2,)),
    ]
    assert found.example is None and found.manifest.framework == "pytorch 2"
    (shelf / "net" / "1" / "manifest.json").unlink()
    bare = known.read(shelf, "net")
    assert bare.manifest is None
    validate(openapi.document(bare))
    os.mkfifo(shelf / "net" / "1" / "card.md")
    assert known.read(shelf, "net").title == "net", "a pipe is not waited for"
    config = shelf / "net" / "config.pbtxt"
    config.write_text(config.read_text().replace("versions: 1", "versions: 9"))
    with pytest.raises(VersionNotFoundError):
        known.read(shelf, "net")
