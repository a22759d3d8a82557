"""What only the compiled backend `onnxruntime` does: it runs in the server's own process, which must not suffer."""

from __future__ import annotations

import json
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from onnx import helper

from modelport.server import EmbeddedServer, toolchain

NODE = helper.make_node
WAIT = "dynamic_batching { max_queue_delay_microseconds: 100000 }\n"
LIMIT = 'parameters { key: "modelport_max_run_s" value: { string_value: "1" } }\n'
# Their answer is the sum of all elements of the row, and the number of elements in the run.
FILLED = (("line", "INT64", "-1", [1], -3), ("field", "FP32", "-1,-1", [1, 2], 0.5))
TAG = 'metric_tags { key: "team" value: "blue" }\n'


@pytest.fixture(scope="module")
def server(zoo, make_graph, require):
    require("the compiled backend", present=toolchain.NATIVE.is_file())
    step = make_graph(
        [NODE("Identity", ["more"], ["more_out"]), NODE("Sin", ["value"], ["value_out"])],
        "count:INT64[] more:BOOL[] value:FLOAT[64]",
        "more_out:BOOL[] value_out:FLOAT[64]",
    )
    nodes = [
        NODE("ReduceMax", ["n"], ["times"], keepdims=0),
        NODE("Loop", ["times", "yes", "ones"], ["last"], body=step),
        NODE("ReduceSum", ["last"], ["sum"], keepdims=0),
        NODE("Cast", ["n"], ["n_float"], to=1),
        NODE("Mul", ["n_float", "zero"], ["zeros"]),
        NODE("Add", ["zeros", "sum"], ["y"]),
    ]
    weights = {"yes": np.array(True), "ones": np.ones(64, np.float32), "zero": np.zeros(1, np.float32)}
    loop = make_graph(nodes, "n:INT64[b,1]", "y:FLOAT[b,1]", weights)
    zoo.onnx("loop", "n:INT64[1]", "y:FP32[1]", loop, extra=WAIT + LIMIT)
    found = [NODE("NonZero", ["x"], ["places"]), NODE("Transpose", ["places"], ["y"], perm=[1, 0])]
    zoo.onnx("places", "x:FP32[4]", "y:INT64[2]", make_graph(found, "x:FLOAT[n,4]", "y:INT64[k,2]"), extra=WAIT)
    same = [NODE("Identity", ["bit"], ["bit_out"]), NODE("Identity", ["text"], ["text_out"])]
    echo = make_graph(same, "bit:BOOL[n,2] text:STRING[n,k]", "bit_out:BOOL[n,2] text_out:STRING[n,k]")
    zoo.onnx("echo", "bit:BOOL[2] text:STRING[-1]", "bit_out:BOOL[2] text_out:STRING[-1]", echo, extra=TAG)
    for name, datatype, dims, axes, value in FILLED:
        sums = [
            NODE("ReduceSum", ["x", "axes"], ["sum"], keepdims=1),
            NODE("Cast", ["sum"], ["sum_float"], to=1),
            NODE("Reshape", ["sum_float", "column"], ["sums"]),
            NODE("Size", ["x"], ["size"]),
            NODE("Cast", ["size"], ["size_float"], to=1),
            NODE("Mul", ["sums", "zero"], ["zeros"]),
            NODE("Add", ["zeros", "size_float"], ["sizes"]),
            NODE("Concat", ["sums", "sizes"], ["y"], axis=1),
        ]
        shape = "n,a,b" if len(axes) == 2 else "n,a"
        constants = {"axes": np.array(axes), "column": np.array([-1, 1]), "zero": np.zeros(1, np.float32)}
        onnx_type = {"INT64": "INT64", "FP32": "FLOAT"}[datatype]
        filled = make_graph(sums, f"x:{onnx_type}[{shape}]", "y:FLOAT[n,2]", constants)
        path = zoo.onnx(name, f"x:{datatype}[{dims}]", "y:FP32[2]", filled, extra=WAIT)
        manifest = {"spec": {"inputs": [{"name": "x", "pad": value}]}}
        (path.parent / "manifest.json").write_text(json.dumps(manifest))
    with EmbeddedServer(zoo.root, http_port=0, grpc_port=0, metrics_port=0) as running:
        assert running.failed == {}
        yield running


def together(calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(*call) for call in calls]]


def test_the_models_have_no_processes_of_their_own(server):
    assert psutil.Process(server.pid).children(recursive=True) == []


def test_a_run_that_does_not_end_is_ended_once_for_all_its_requests_and_the_next_is_answered(caller):
    endless = np.array([[10**12]])
    for answer in together([(caller, "loop", {"n": endless})] * 3):
        assert (answer.status, "took longer than 1 s and was ended" in answer.error) == (500, True), answer
    answer = caller("loop", {"n": np.array([[3]])})
    np.testing.assert_allclose(answer.arrays["y"], [[64 * np.sin(np.sin(np.sin(1)))]], rtol=1e-5)


def test_rows_that_depend_on_the_data_are_an_error_of_each_request_whose_rows_are_others(caller):
    """Three requests of one row are joined; only the one with one element that is not zero fits its single row."""
    inputs = [np.array([row], np.float32) for row in ([0, 0, 5, 0], [1, 1, 0, 0], [1, 1, 1, 0])]
    right, *wrong = together([(caller, "places", {"x": x}) for x in inputs])
    np.testing.assert_array_equal(right.arrays["y"], [[0, 2]])
    for answer, rows in zip(wrong, (2, 3), strict=True):
        assert answer.status == 500
        assert f"output 'y' has shape [{rows}, 2], expected [1, 2]" in answer.error


def test_requests_of_different_lengths_run_together_filled_up_with_the_value_of_the_manifest(caller):
    rows = [np.full((1, length), 10, np.int64) for length in (8, 10, 9)] + [np.array([[5]])]
    *near, far = together([(caller, "line", {"x": x}) for x in rows])
    for x, answer in zip(rows, near, strict=False):
        np.testing.assert_array_equal(answer.arrays["y"], [[x.sum() - 3 * (10 - x.size), 30]])
    np.testing.assert_array_equal(far.arrays["y"], [[5, 1]])  # so much shorter that filling up costs more than a run


def test_every_axis_is_filled_up_and_requests_of_several_rows_get_their_own(caller):
    fields = [np.full(shape, 2, np.float32) for shape in ((2, 4, 5), (1, 5, 4), (1, 5, 5))]
    for x, answer in zip(fields, together([(caller, "field", {"x": x}) for x in fields]), strict=True):
        own = x[0].size
        np.testing.assert_array_equal(answer.arrays["y"], [[2 * own + 0.5 * (25 - own), 100]] * len(x))


def test_sizes_whose_product_is_no_number_do_not_reach_beside_the_inputs_of_others(server, caller, sent):
    """An input without elements may have axes of any size, filled up to which others would be without end."""
    before = server.pid
    field = np.full((1, 2**20, 1), 2, np.float32)
    for shape in ((1, 2**62, 0), (1, 2**31, 0), (1, 0, 2**40)):
        empty = [sent("x", "FP32", shape, b"")]
        *answers, odd = together([(caller, "field", {"x": field})] * 2 + [(caller, "field", empty)])
        for answer in answers:
            np.testing.assert_array_equal(answer.arrays["y"][:, 0], [2**21])
        assert odd.status in (200, 400, 500)
    assert server.pid == before and psutil.pid_exists(before)


TEXTS = b"\x03\0\0\0a\0b" + b"\0\0\0\0"  # the middle byte of the first one is 0


def test_texts_may_hold_zeros(caller, sent):
    answer = caller("echo", [sent("bit", "BOOL", (1, 2), b"\0\1"), sent("text", "BYTES", (1, 2), TEXTS)])
    assert answer.arrays["text_out"].tolist() == [[b"a\0b", b""]]


@pytest.mark.parametrize(
    ("bits", "texts", "reason"),
    [
        (b"\0\2", TEXTS, "neither 0 nor 1"),
        (b"\0\1", b"\x03\0\0\0a\0b\xff\xff\xff\xff", "'text'"),
        (b"\0\1", TEXTS + b"\0", "'text'"),
        (b"\0\1", TEXTS[:-4], "'text'"),
    ],
)
def test_bytes_that_are_no_truth_value_and_lengths_of_texts_that_lie_are_the_callers_error(
    caller, sent, bits, texts, reason
):
    answer = caller("echo", [sent("bit", "BOOL", (1, 2), bits), sent("text", "BYTES", (1, 2), texts)])
    assert (answer.status, reason in answer.error) == (400, True), answer


def test_labels_of_metric_tags_stand_where_the_line_of_waiting_requests_is_looked_for(server):
    """Triton writes them before the model's name; the backends and the counters read past them."""
    with urllib.request.urlopen(server.metrics_url) as response:
        text = response.read().decode()
    assert re.search(
        r'^nv_inference_pending_request_count{_team="blue",model="echo",version="1"} 0$', text, re.MULTILINE
    )
