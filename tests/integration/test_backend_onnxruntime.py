"""Conformance of the backend `onnxruntime`: it honours, refuses and answers as that of the official container does.

All holds for the compiled one and for the one in Python, which serves isolated models.
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
import psutil
import pytest
import tritonclient.http
from onnx import helper

from modelport.server import EmbeddedServer

NODE = helper.make_node
TYPES = {
    "BOOL": ("BOOL", np.bool_),
    "UINT8": ("UINT8", np.uint8),
    "UINT16": ("UINT16", np.uint16),
    "UINT32": ("UINT32", np.uint32),
    "UINT64": ("UINT64", np.uint64),
    "INT8": ("INT8", np.int8),
    "INT16": ("INT16", np.int16),
    "INT32": ("INT32", np.int32),
    "INT64": ("INT64", np.int64),
    "FP16": ("FLOAT16", np.float16),
    "FP32": ("FLOAT", np.float32),
    "FP64": ("DOUBLE", np.float64),
    "STRING": ("STRING", np.object_),
}
WAIT = "dynamic_batching { max_queue_delay_microseconds: 100000 }\n"
CORES = len(os.sched_getaffinity(0))


def parameter(key, value):
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'


def accelerator(kind, name, **parameters):
    inner = "".join(f'parameters {{ key: "{k}" value: "{v}" }} ' for k, v in parameters.items())
    return (
        f'optimization {{ execution_accelerators {{ {kind}_execution_accelerator {{ name: "{name}" {inner} }} }} }}\n'
    )


# Configurations that must be refused when loading: extra text of a model that is right otherwise, and the reason.
REFUSED_EXTRAS = {
    "gpu_accelerator": (accelerator("gpu", "warp"), "unknown Execution Accelerator 'warp'"),
    "cpu_accelerator": (accelerator("cpu", "cuda"), "unknown Execution Accelerator 'cuda'"),
    "intra": (parameter("intra_op_thread_count", "two"), "'intra_op_thread_count' is 'two'"),
    "inter": (parameter("inter_op_thread_count", "1.5"), "'inter_op_thread_count' is '1.5'"),
    "mode": (parameter("execution_mode", "2"), "'execution_mode' is '2'"),
    "arena": (parameter("enable_mem_arena", "perhaps"), "'enable_mem_arena' is 'perhaps'"),
    "pattern": (parameter("enable_mem_pattern", ""), "'enable_mem_pattern' is ''"),
    "shrink": (parameter("memory.enable_memory_arena_shrinkage", "yes"), "must look like 'cpu:0'"),
    "nofile": ('default_model_filename: "absent.onnx"\n', "'absent.onnx' is missing"),
    "outside": ('default_model_filename: "../../mlp/1/model.onnx"\n', "outside the version's folder"),
    "sequence": ("sequence_batching { }\n", "'sequence_batching' is not served"),
    "decoupled": ("model_transaction_policy { decoupled: true }\n", "decoupled"),
}
# Configurations that do not fit the model x:FP32[4] -> y:FP32[3]: inputs, outputs, largest batch, and the reason.
REFUSED_TENSORS = {
    "in_dtype": ("x:FP64[4]", "y:FP32[3]", 8, "datatype TYPE_FP64 for input 'x', model provides TYPE_FP32"),
    "in_name": ("z:FP32[4]", "y:FP32[3]", 8, "unexpected input 'z'"),
    "in_count": ("x:FP32[4] z:FP32[4]", "y:FP32[3]", 8, "configuration expects 2 inputs, model provides 1"),
    "in_dims": ("x:FP32[5]", "y:FP32[3]", 8, "tensor 'x': the model expects shape [-1, 4]"),
    "in_rank": ("x:FP32[2,2]", "y:FP32[3]", 8, "tensor 'x'"),
    "out_dtype": ("x:FP32[4]", "y:INT64[3]", 8, "datatype TYPE_INT64 for output 'y', model provides TYPE_FP32"),
    "out_name": ("x:FP32[4]", "q:FP32[3]", 8, "unexpected output 'q'"),
    "out_dims": ("x:FP32[4]", "y:FP32[-1]", 8, "tensor 'y'"),
    "fixed": ("x:FP32[4]", "y:FP32[4]", 8, "tensor 'x': for the model to support batching"),
}


@pytest.fixture(scope="module")
def mlp(make_graph):
    rng = np.random.default_rng(7)
    weights = {"w": rng.normal(size=(4, 3)).astype(np.float32), "b": rng.normal(size=3).astype(np.float32)}
    nodes = [NODE("Gemm", ["x", "w", "b"], ["h"]), NODE("Softmax", ["h"], ["y"])]
    return make_graph(nodes, "x:FLOAT[n,4]", "y:FLOAT[n,3]", weights)


@pytest.fixture(scope="module")
def repository(zoo, mlp, make_graph):
    """Every model of this module, right and wrong ones."""
    build_right(zoo, mlp, make_graph)
    for name, (extra, _) in REFUSED_EXTRAS.items():
        zoo.onnx(f"refused_{name}", "x:FP32[4]", "y:FP32[3]", mlp, extra=extra)
    for name, (inputs, outputs, batch, _) in REFUSED_TENSORS.items():
        fixed = make_graph([NODE("Relu", ["x"], ["y"])], "x:FLOAT[1,4]", "y:FLOAT[1,4]")
        zoo.onnx(f"refused_{name}", inputs, outputs, fixed if name == "fixed" else mlp, batch)
    zoo.onnx("refused_ragged", "x:FP32[4]{allow_ragged_batch: true}", "y:FP32[3]", mlp)
    zoo.onnx("refused_bytes", "x:FP32[4]", "y:FP32[3]", mlp).write_bytes(b"\x08\x07 not a model")
    return zoo.root


@pytest.fixture(scope="module", params=[False, True], ids=["compiled", "python"])
def server(request, repository):
    """One server with all of them."""
    with EmbeddedServer(repository, http_port=0, grpc_port=0, metrics_port=0, isolated=request.param) as running:
        yield running


def build_right(zoo, mlp, make_graph):
    labels = "x:FP32[4]", 'y:FP32[3]{label_filename: "labels.txt"}'
    zoo.onnx("mlp", *labels, mlp, extra=WAIT)
    (zoo.root / "mlp" / "labels.txt").write_text("cat\ndog\nfox\n")
    zoo.onnx(
        "types",
        " ".join(f"i_{t}:{t}[2]" for t in TYPES),
        " ".join(f"o_{t}:{t}[2]" for t in TYPES),
        make_graph(
            [NODE("Identity", [f"i_{t}"], [f"o_{t}"]) for t in TYPES],
            " ".join(f"i_{t}:{o}[n,2]" for t, (o, _) in TYPES.items()),
            " ".join(f"o_{t}:{o}[n,2]" for t, (o, _) in TYPES.items()),
        ),
    )
    add = [NODE("Add", ["a", "b"], ["s"]), NODE("ReduceMax", ["s"], ["m"], axes=[1])]
    tensors = "a:FLOAT[n,t] b:FLOAT[n,t]", "s:FLOAT[n,t] m:FLOAT[n,1]"
    zoo.onnx("mixed", "a:FP32[-1] b:FP32[-1]", "s:FP32[-1] m:FP32[1]", make_graph(add, *tensors), 16, WAIT)
    only_sum = make_graph(add[:1], "a:FLOAT[n,t] b:FLOAT[n,t]", "s:FLOAT[n,t]")
    zoo.onnx("sum", "a:FP32[-1] b:FP32[-1]", "s:FP32[-1]", only_sum)
    table = {"w": np.arange(10, dtype=np.float32).reshape(5, 2)}
    pick = make_graph([NODE("Gather", ["w", "i"], ["y"])], "i:INT64[n,1]", "y:FLOAT[n,1,2]", table)
    zoo.onnx("pick", "i:INT64[1]", "y:FP32[1,2]", pick, extra=WAIT)
    scale = [NODE("Mul", ["x", "k"], ["y"]), NODE("ReduceSum", ["y"], ["total"], keepdims=0)]
    scalar = make_graph(scale, "x:FLOAT[2,3] k:FLOAT[]", "y:FLOAT[2,3] total:FLOAT[]")
    zoo.onnx("scalar", "x:FP32[2,3] k:FP32[1]", "y:FP32[2,3] total:FP32[1]", scalar, 0)
    bias = {"bias": np.array([10, 20], np.float32)}
    optional = make_graph([NODE("Add", ["x", "bias"], ["y"])], "x:FLOAT[2] bias:FLOAT[2]", "y:FLOAT[2]", bias)
    zoo.onnx("optional", "x:FP32[2] bias:FP32[2]{optional: true}", "y:FP32[2]", optional, 0)
    default = {"k": np.array(3, np.float32)}
    factor = make_graph([NODE("Mul", ["x", "k"], ["y"])], "x:FLOAT[2] k:FLOAT[]", "y:FLOAT[2]", default)
    zoo.onnx("factor", "x:FP32[2] k:FP32[1]{optional: true}", "y:FP32[2]", factor, 0)
    flat = make_graph([NODE("Neg", ["x"], ["y"])], "x:FLOAT[n]", "y:FLOAT[n]")
    zoo.onnx("flat", "x:FP32[1]{reshape { shape: [] }}", "y:FP32[1]{reshape { shape: [] }}", flat)
    plain = "x:FP32[4]", "y:FP32[3]", mlp
    zoo.onnx("file", *plain, file="net.onnx", extra='default_model_filename: "net.onnx"\n')
    zoo.onnx("folder", *plain, file="model.onnx/model.onnx")
    zoo.onnx("single", *plain, extra=parameter("intra_op_thread_count", "1"))
    zoo.onnx("pair", *plain, extra="instance_group { kind: KIND_CPU count: 2 }\n")
    for level in (-1, 1, 2):
        zoo.onnx(f"level_{level}", *plain, extra=f"optimization {{ graph {{ level: {level} }} }}\n")
    tuned = {
        "intra_op_thread_count": "3",
        "inter_op_thread_count": "4",
        "execution_mode": "1",
        "enable_mem_arena": "0",
        "enable_mem_pattern": "OFF",
        "session.use_device_allocator_for_initializers": "1",
        "my_own_note": "anything",
    }
    zoo.onnx("tuned", *plain, extra="".join(parameter(*item) for item in tuned.items()))
    zoo.onnx("shrinking", *plain, extra=parameter("memory.enable_memory_arena_shrinkage", "cpu:0"))
    zoo.onnx("openvino", *plain, extra=accelerator("cpu", "openvino"))
    zoo.onnx("tensorrt", *plain, extra=accelerator("gpu", "tensorrt", precision_mode="FP16"))
    zoo.onnx("cuda", *plain, extra=accelerator("gpu", "cuda", cudnn_conv_use_max_workspace="0"))


@pytest.fixture(scope="module")
def reference(zoo):
    """`reference(model, feed)`: the answers of ONNX Runtime in this process, by output name."""
    sessions = {}

    def answer(model, feed):
        if model not in sessions:
            options = ort.SessionOptions()
            options.intra_op_num_threads = CORES
            sessions[model] = ort.InferenceSession(zoo.root / model / "1" / "model.onnx", options)
        names = [output.name for output in sessions[model].get_outputs()]
        return dict(zip(names, sessions[model].run(names, feed), strict=True))

    return answer


def rows(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def folders(server):
    return [folder.name for folder in server.repository.iterdir()]


def log_line(server, model):
    return re.search(rf"onnxruntime [\d.]+, model '{model}' version 1: .*", server.log.read_text()).group()


def statistics(server, model):
    url = f"{server.http_url}/v2/models/{model}/stats"
    with urllib.request.urlopen(urllib.request.Request(url, headers=server.http_headers)) as response:
        return json.load(response)["model_stats"][0]


def threads_of(server, model):
    """Threads that end when a model is unloaded; it is loaded again."""
    process = psutil.Process(server.pid)

    def all_threads():
        return sum(one.num_threads() for one in (process, *process.children(recursive=True)))

    before = all_threads()
    server.unload(model)
    left = all_threads()
    server.load(model)
    return before - left


# Refused


@pytest.mark.parametrize("name", [*REFUSED_EXTRAS, *REFUSED_TENSORS])
def test_a_wrong_configuration_is_a_load_error_that_says_why(server, name):
    reason = {**REFUSED_EXTRAS, **REFUSED_TENSORS}[name][-1]
    assert reason in server.failed[f"refused_{name}"]


def test_a_ragged_input_and_a_file_that_is_no_model_are_load_errors(server):
    assert "allow_ragged_batch" in server.failed["refused_ragged"]
    assert "Protobuf" in server.failed["refused_bytes"] or "INVALID_PROTOBUF" in server.failed["refused_bytes"]


def test_every_refusal_was_expected_and_every_other_model_is_ready(server):
    ready = {state.model for state in server.index() if state.ready}
    assert set(server.failed) == {name for name in folders(server) if name.startswith("refused_")}
    assert ready == set(folders(server)) - set(server.failed)


# Honoured


def test_the_documented_parameters_reach_onnx_runtime(server):
    line = log_line(server, "tuned")
    assert "ORT_PARALLEL, 3 intra-op threads, 4 inter-op threads" in line
    assert "memory arena False, memory pattern False" in line


def test_thread_counts_take_effect(server):
    few, many = threads_of(server, "single"), threads_of(server, "tuned")
    # One thread of each pool is the caller's own, so at least (3 - 1) + (4 - 1) more.
    assert many >= few + 5


def test_instances_together_use_no_more_threads_than_there_are_cores(server):
    assert f"ORT_SEQUENTIAL, {CORES} intra-op threads" in log_line(server, "mlp")
    assert f"{max(1, CORES // 2)} intra-op threads" in log_line(server, "pair")


@pytest.mark.parametrize(
    ("model", "level"),
    [("level_-1", "BASIC"), ("mlp", "ALL"), ("level_1", "EXTENDED"), ("level_2", "ORT_DISABLE_ALL")],
)
def test_the_graph_level_reaches_onnx_runtime(server, model, level):
    assert re.search(rf"graph level ORT_\w*{level.removeprefix('ORT_')}\b", log_line(server, model))


def test_accelerators_that_this_machine_lacks_do_not_change_answers(server, protocol, caller, reference):
    expected = reference("mlp", {"x": rows(3)})["y"]
    for model in ("openvino", "tensorrt", "cuda"):
        np.testing.assert_array_max_ulp(caller(model, {"x": rows(3)}).arrays["y"], expected, 1)
    assert "no OpenVINOExecutionProvider" in server.log.read_text()


@pytest.mark.parametrize("model", ["file", "folder", "single", "pair", "tuned", "shrinking", "level_-1", "level_2"])
def test_every_variant_of_a_model_gives_the_same_answer(caller, reference, model):
    np.testing.assert_array_max_ulp(caller(model, {"x": rows(5)}).arrays["y"], reference("mlp", {"x": rows(5)})["y"], 1)


# Answers


@pytest.mark.parametrize("count", [1, 2, 8])
def test_answers_are_those_of_onnx_runtime_in_process(caller, reference, count):
    answer = caller("mlp", {"x": rows(count)})
    np.testing.assert_array_max_ulp(answer.arrays["y"], reference("mlp", {"x": rows(count)})["y"], 1)


def test_every_element_type_comes_back_unchanged(caller):
    rng = np.random.default_rng(3)
    feed = {}
    for name, (_, dtype) in TYPES.items():
        if name == "STRING":
            feed[f"i_{name}"] = np.array([["", "añb"], ["\U0001f600", "x" * 5000]], dtype=object)
        elif np.dtype(dtype).kind in "iu":
            info = np.iinfo(dtype)
            feed[f"i_{name}"] = np.array([[info.min, info.max], [1, 0]], dtype)
        elif name == "BOOL":
            feed[f"i_{name}"] = np.array([[True, False], [False, True]])
        else:
            feed[f"i_{name}"] = rng.normal(size=(2, 2)).astype(dtype)
    answer = caller("types", feed)
    assert answer.status == 200, answer.error
    for name in TYPES:
        got, want = answer.arrays[f"o_{name}"], feed[f"i_{name}"]
        if name == "STRING":
            got = np.array([text.decode() for text in got.ravel()], dtype=object).reshape(got.shape)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_concurrent_requests_of_mixed_shapes_are_joined_and_answered_exactly(server, caller, reference):
    rng = np.random.default_rng(11)
    feeds = []
    for _ in range(80):
        shape = (int(rng.integers(1, 5)), int(rng.choice([1, 3, 7])))
        feeds.append({name: rng.normal(size=shape).astype(np.float32) for name in ("a", "b")})
    before = statistics(server, "mixed")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda feed: caller("mixed", feed), feeds))
    after = statistics(server, "mixed")
    for feed, answer in zip(feeds, answers, strict=True):
        want = reference("mixed", feed)
        np.testing.assert_array_equal(answer.arrays["s"], want["s"])
        np.testing.assert_array_equal(answer.arrays["m"], want["m"])
    runs = after["execution_count"] - before["execution_count"]
    assert runs < len(feeds), "the dynamic batcher joined nothing, so the test proved nothing"


def test_only_the_requested_outputs_come_back(caller, reference):
    feed = {"a": np.ones((2, 3), np.float32), "b": np.ones((2, 3), np.float32)}
    answer = caller("mixed", feed, ["m"])
    assert list(answer.arrays) == ["m"]
    np.testing.assert_array_equal(answer.arrays["m"], reference("mixed", feed)["m"])


def test_scalars_of_the_model_are_tensors_of_one_element(caller):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    answer = caller("scalar", {"x": x, "k": np.array([2], np.float32)})
    np.testing.assert_array_equal(answer.arrays["y"], 2 * x)
    np.testing.assert_array_equal(answer.arrays["total"], [30.0])


def test_an_optional_input_has_the_models_own_value_when_it_is_left_out(caller):
    x = np.array([1, 2], np.float32)
    np.testing.assert_array_equal(caller("optional", {"x": x}).arrays["y"], [11, 22])
    np.testing.assert_array_equal(caller("optional", {"x": x, "bias": x}).arrays["y"], [2, 4])
    np.testing.assert_array_equal(caller("factor", {"x": x}).arrays["y"], [3, 6])
    np.testing.assert_array_equal(caller("factor", {"x": x, "k": np.ones(1, np.float32)}).arrays["y"], [1, 2])


def test_reshape_gives_the_model_its_own_rank(caller):
    x = np.array([[1], [2], [3]], np.float32)
    np.testing.assert_array_equal(caller("flat", {"x": x}).arrays["y"], -x)


def test_a_tensor_without_elements_is_answered(caller):
    empty = np.zeros((2, 0), np.float32)
    answer = caller("sum", {"a": empty, "b": empty})
    assert answer.status == 200, answer.error
    assert answer.arrays["s"].shape == (2, 0)


def test_classification_gives_labels(server, reference):
    client = tritonclient.http.InferenceServerClient(server.http_url.partition("://")[2])
    x = tritonclient.http.InferInput("x", [1, 4], "FP32")
    x.set_data_from_numpy(rows(1))
    result = client.infer("mlp", [x], outputs=[tritonclient.http.InferRequestedOutput("y", class_count=1)])
    client.close()
    best = int(reference("mlp", {"x": rows(1)})["y"].argmax())
    assert result.as_numpy("y")[0][0].decode().endswith(f":{best}:{['cat', 'dog', 'fox'][best]}")


# Errors while answering


def test_only_the_request_that_makes_the_model_fail_gets_the_error(server, caller):
    numbers = [0, 1, 99, 2, 3, 4, -1, 2]
    before = statistics(server, "pick")
    with ThreadPoolExecutor(len(numbers)) as pool:
        answers = list(pool.map(lambda i: caller("pick", {"i": np.array([[i]])}), numbers))
    after = statistics(server, "pick")
    assert after["execution_count"] - before["execution_count"] < len(numbers), "the requests were not joined"
    for number, answer in zip(numbers, answers, strict=True):
        if number == 99:
            assert answer.status == 500
            assert "model 'pick' failed" in answer.error
            assert "idx=99" in answer.error
            assert "Traceback" not in answer.error
            assert not re.search(r"/\w+/|\.(py|cc|h)\b", answer.error)
        else:
            np.testing.assert_array_equal(answer.arrays["y"], [[[2 * (number % 5), 2 * (number % 5) + 1]]])


def test_text_that_is_not_utf8_is_the_callers_error(caller, sent):
    zeros = {f"i_{t}": np.zeros((1, 2), d) for t, (_, d) in TYPES.items() if t != "STRING"}
    text = sent("i_STRING", "BYTES", (1, 2), b"\x02\0\0\0\xff\xfe\0\0\0\0")
    answer = caller("types", [*(sent.of(n, a) for n, a in zeros.items()), text])
    assert answer.status == 400
    assert "'i_STRING' holds text that is not UTF-8" in answer.error


# Wrong requests: model, inputs, outputs, and what the error must name.
F = np.float32
WRONG = {
    "missing": ("mixed", lambda s: [s.of("a", np.ones((1, 2), F))], (), "'b'"),
    "extra": ("mlp", lambda s: [s.of("x", rows(1)), s.of("z", rows(1))], (), "'z'"),
    "duplicate": ("mlp", lambda s: [s.of("x", rows(1)), s.of("x", rows(1))], (), "'x'"),
    "output": ("mlp", lambda s: [s.of("x", rows(1))], ("nope",), "'nope'"),
    "dtype": ("mlp", lambda s: [s.of("x", rows(1).astype(np.float64))], (), "'x' data-type is 'FP64'.*expects 'FP32'"),
    "rank": ("mlp", lambda s: [s.of("x", np.ones(4, F))], (), r"'x'.*Expected \[-1,4\], got \[4\]"),
    "dimension": ("mlp", lambda s: [s.of("x", np.ones((1, 5), F))], (), r"'x'.*Expected \[-1,4\], got \[1,5\]"),
    "batch": ("mlp", lambda s: [s.of("x", rows(9))], (), "batch-size must be <= 8"),
    "rows": (
        "mixed",
        lambda s: [s.of("a", np.ones((1, 2), F)), s.of("b", np.ones((2, 2), F))],
        (),
        "batch size does not",
    ),
    "short": ("mlp", lambda s: [s("x", "FP32", (1, 4), b"\0" * 12)], (), "'x'.*Expected 16, got 12"),
    "long": ("mlp", lambda s: [s("x", "FP32", (1, 4), b"\0" * 20)], (), "'x'.*Expected 16, got 20"),
    "none": ("mlp", lambda s: [s("x", "FP32", (0, 4), b"")], (), "'x'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_refused_by_name_and_the_next_right_one_answered(caller, reference, sent, case):
    model, inputs, outputs, named = WRONG[case]
    answer = caller(model, inputs(sent), outputs)
    assert answer.status == 400, answer
    assert re.search(named, answer.error), answer.error
    golden = caller("mlp", {"x": rows(2)})
    np.testing.assert_array_max_ulp(golden.arrays["y"], reference("mlp", {"x": rows(2)})["y"], 1)


def test_the_comparison_with_the_reference_can_fail(caller, reference):
    """Negative control: an input that differs in one element by 0.01 is told apart."""
    other = rows(2)
    other[0, 0] += 0.01
    with pytest.raises(AssertionError):
        np.testing.assert_array_max_ulp(
            caller("mlp", {"x": other}).arrays["y"], reference("mlp", {"x": rows(2)})["y"], 1
        )
