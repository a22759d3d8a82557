"""The backend `onnxruntime` in Python, told that inputs may be in a GPU's memory: it takes them through DLPack."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import helper

from modelport.server import EmbeddedServer

VALUES = {
    "flag": np.array([[True, False]]),
    "whole": np.array([[-(2**63), 2**63 - 1]]),
    "half": np.array([[1.5, -65504]], np.float16),
    "single": np.array([[1e-38, 3e38]], np.float32),
    "text": np.array([[b"a\xc3\xb1b", b""]], object),
}
KINDS = {"flag": "BOOL", "whole": "INT64", "half": "FLOAT16", "single": "FLOAT", "text": "STRING"}
EXTRA = (
    "dynamic_batching { max_queue_delay_microseconds: 100000 }\n"
    'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value: { string_value: "no" } }\n'
)


@pytest.fixture(scope="module")
def server(zoo, make_graph):
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in KINDS]
    triton = {"FLOAT16": "FP16", "FLOAT": "FP32"}
    outside = " ".join(f"{name}:{triton.get(kind, kind)}[2]" for name, kind in KINDS.items())
    inside = " ".join(f"{name}:{kind}[n,2]" for name, kind in KINDS.items())
    outputs = [text.replace(":", "_out:") for text in (outside, inside)]
    zoo.onnx("anywhere", outside, outputs[0], make_graph(nodes, inside, outputs[1]), extra=EXTRA)
    with EmbeddedServer(zoo.root, http_port=0, grpc_port=0, metrics_port=0, isolated=True) as running:
        yield running


def test_every_element_type_comes_back_alone_and_joined(caller):
    feeds = [{name: value[:, ::step] for name, value in VALUES.items()} for step in (1, -1)] * 4
    with ThreadPoolExecutor(len(feeds)) as pool:
        answers = list(pool.map(lambda feed: caller("anywhere", feed), feeds))
    for feed, answer in zip(feeds, [*answers], strict=True):
        assert answer.status == 200, answer.error
        for name, value in feed.items():
            np.testing.assert_array_equal(answer.arrays[f"{name}_out"], value)
