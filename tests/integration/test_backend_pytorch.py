"""Conformance of the Python-based backend `pytorch`: it honours, refuses and answers as the compiled one does."""

from __future__ import annotations

import os
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from modelport.server import EmbeddedServer

WAIT = "dynamic_batching { max_queue_delay_microseconds: 100000 }\n"
CORES = len(os.sched_getaffinity(0))
STAY = "FORCE_CPU_ONLY_INPUT_TENSORS"
BATCHED_TEXT = "text:STRING[1]{reshape { shape: [] }}"


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x):
        return torch.softmax(self.linear(x), -1)


class Types(torch.nn.Module):
    """Nine element types in an order of their own; the outputs are a tuple."""

    def forward(self, b, u8, i8, i16, i32, i64, f16, f32, f64):
        return b, u8, i8, i16, i32, i64, f16, f32, f64


class Named(torch.nn.Module):
    def forward(self, first, second):
        return first - second, first + second


class Dictionary(torch.nn.Module):
    def forward(self, tensors: dict[str, torch.Tensor]):
        return tensors["left"] - tensors["right"]


class DictionaryOut(torch.nn.Module):
    def forward(self, x):
        return {"y": x}


class Strings(torch.nn.Module):
    def forward(self, text: list[str]) -> tuple[torch.Tensor, list[str]]:
        lengths = torch.jit.annotate(list[int], [])
        upper = torch.jit.annotate(list[str], [])
        for item in text:
            lengths.append(len(item))
            upper.append(item.upper())
        return torch.tensor(lengths), upper


class Root(torch.nn.Module):
    def forward(self, x):
        if bool((x < 0).any()):
            raise ValueError("negative value")
        return x.sqrt()


class Wrong(torch.nn.Module):
    """A wrong shape for positive numbers, a wrong element type for others."""

    def forward(self, x):
        if bool((x > 0).all()):
            return x.sum(0, keepdim=True)
        return x.half()


class Telling(Linear):
    """Its second output tells whether inference mode is on: 1.0 or 0.0."""

    def forward(self, x):
        y = torch.softmax(self.linear(x), -1)
        return y, torch.full_like(x, float(y.is_inference()))


class Whole:
    """Pickling this writes a file that runs code when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def parameter(key, value):
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'


# Models that must be refused when loading: module, inputs, outputs, largest batch, extra text, and the reason.
REFUSED = {
    "flag": (Linear, "x:FP32[4]", "y:FP32[3]", 8, parameter("INFERENCE_MODE", "maybe"), "'INFERENCE_MODE' is 'maybe'"),
    "dtype": (Linear, "x:UINT32[4]", "y:FP32[3]", 8, "", "unsupported datatype TYPE_UINT32 for input 'x'"),
    "count": (Named, "first:FP32[4]", "y:FP32[4]", 8, "", "configuration expects 1 inputs, model provides 2"),
    "index": (Named, "a__0:FP32[4] b__2:FP32[4]", "y:FP32[4]", 8, "", "do not fit forward's arguments first, second"),
    "stay": (Linear, "x:FP32[4]", "y:FP32[3]", 8, parameter(STAY, "maybe"), f"Incorrect value for {STAY}: maybe"),
}
if not torch.cuda.is_available():
    REFUSED["gpu"] = (Linear, "x:FP32[4]", "y:FP32[3]", 8, "instance_group { kind: KIND_GPU }\n", "no GPUs")


@pytest.fixture(scope="module")
def marker(tmp_path_factory):
    return tmp_path_factory.mktemp("pickle") / "it-ran"


@pytest.fixture(scope="module")
def server(zoo, marker):
    """One server with every model of this module, right and wrong ones."""

    def put(name, module, *config):
        torch.jit.script(module.eval()).save(zoo.config(name, "pytorch", *config) / "model.pt")

    types = ("BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")
    arguments = ("b", "u8", "i8", "i16", "i32", "i64", "f16", "f32", "f64")
    put("linear", Telling(), "x:FP32[4]", "y:FP32[3] mode:FP32[4]", 8, WAIT)
    put(
        "types",
        Types(),
        " ".join(f"{a}:{t}[2]" for a, t in sorted(zip(arguments, types, strict=True), reverse=True)),
        " ".join(f"OUTPUT__{i}:{t}[2]" for i, t in reversed(list(enumerate(types)))),
    )
    put("named", Named(), "INPUT__1:FP32[2] INPUT__0:FP32[2]", "difference:FP32[2] total:FP32[2]")
    put("dictionary", Dictionary(), "right:FP32[2] left:FP32[2]", "y:FP32[2]")
    put("dictionary_out", DictionaryOut(), "x:FP32[2]", "y:FP32[2]")
    put(
        "strings", Strings(), BATCHED_TEXT, f"n:INT64[1]{{reshape {{ shape: [] }}}} {BATCHED_TEXT.replace('text', 'u')}"
    )
    put("root", Root(), "x:FP32[2]", "y:FP32[2]", 8, WAIT)
    put("wrong", Wrong(), "x:FP32[2]", "y:FP32[2]", 8)
    put("tuned", Telling(), "x:FP32[4]", "y:FP32[3] mode:FP32[4]", 8, tuned("false", "true"))
    put("staying", Telling(), "x:FP32[4]", "y:FP32[3] mode:FP32[4]", 8, WAIT + parameter(STAY, "no"))
    for name, (module, inputs, outputs, batch, extra, _) in REFUSED.items():
        put(f"refused_{name}", module(), inputs, outputs, batch, extra)
    pickled = zoo.config("refused_pickle", "pytorch", "x:FP32[4]", "y:FP32[3]")
    (pickled / "model.pt").write_bytes(pickle.dumps(Whole(marker)))
    zipped = zoo.config("refused_whole_module", "pytorch", "x:FP32[4]", "y:FP32[3]")
    torch.save(Whole(marker), zipped / "model.pt")
    with EmbeddedServer(zoo.root, http_port=0, grpc_port=0, metrics_port=0) as running:
        yield running


def tuned(inference, unoptimized):
    values = {
        "INFERENCE_MODE": inference,
        "DISABLE_OPTIMIZED_EXECUTION": unoptimized,
        "DISABLE_CUDNN": "on",
        "ENABLE_CACHE_CLEANING": "1",
        "ENABLE_WEIGHT_SHARING": "true",
        "ENABLE_JIT_PROFILING": "0",
        "ENABLE_JIT_EXECUTOR": "off",
        "ENABLE_TENSOR_FUSER": "false",
        "INTRA_OP_THREAD_COUNT": "3",
        "INTER_OP_THREAD_COUNT": "4",
    }
    return "".join(parameter(*item) for item in values.items())


def rows(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def reference():
    """`reference(x)`: what the model `linear` answers in this process."""
    module = torch.jit.script(Linear().eval())

    def answer(x):
        with torch.inference_mode():
            return module(torch.from_numpy(x)).numpy()

    return answer


def folders(server):
    return [folder.name for folder in server.repository.iterdir()]


def log_line(server, model):
    return re.search(rf"torch \S+, model '{model}' version 1 on cpu: .*", server.log.read_text()).group()


# Refused


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_configuration_is_a_load_error_that_says_why(server, name):
    assert REFUSED[name][-1] in server.failed[f"refused_{name}"]


@pytest.mark.parametrize("name", ["refused_pickle", "refused_whole_module"])
def test_a_pickle_is_refused_and_nothing_in_it_runs(server, marker, name):
    assert "'model.pt' is not a TorchScript model" in server.failed[name]
    assert not marker.exists()


def test_unpickling_that_file_would_have_run_it(zoo, server, tmp_path):
    """Negative control: the same kind of file leaves its mark when it is unpickled."""
    pickle.loads(pickle.dumps(Whole(tmp_path / "mark"))).close()
    assert (tmp_path / "mark").exists()


def test_every_refusal_was_expected_and_every_other_model_is_ready(server):
    ready = {state.model for state in server.index() if state.ready}
    assert set(server.failed) == {name for name in folders(server) if name.startswith("refused_")}
    assert ready == set(folders(server)) - set(server.failed)


# Honoured


def test_the_documented_parameters_reach_torch(server):
    assert "optimized execution False, inference mode False, 3 intra-op threads, 4 inter-op" in log_line(
        server, "tuned"
    )
    assert f"optimized execution True, inference mode True, {CORES} intra-op threads" in log_line(server, "linear")
    log = server.log.read_text()
    for key in ("ENABLE_JIT_PROFILING", "ENABLE_JIT_EXECUTOR", "ENABLE_TENSOR_FUSER"):
        assert f"model 'tuned': {key} is False" in log


def test_inference_mode_takes_effect(caller):
    assert (caller("linear", {"x": rows(1)}).arrays["mode"] == 1).all()
    assert (caller("tuned", {"x": rows(1)}).arrays["mode"] == 0).all()


# Answers


@pytest.mark.parametrize("count", [1, 2, 8])
def test_answers_are_those_of_torch_in_process(caller, reference, count):
    for model in ("linear", "tuned", "staying"):
        answer = caller(model, {"x": rows(count)})
        np.testing.assert_array_max_ulp(answer.arrays["y"], reference(rows(count)), 1)


def test_concurrent_requests_are_answered_each_with_its_own(caller, reference):
    feeds = [rows(1 + seed % 4, seed) for seed in range(40)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda x: caller("linear", {"x": x}), feeds))
    for feed, answer in zip(feeds, answers, strict=True):
        np.testing.assert_allclose(answer.arrays["y"], reference(feed), rtol=1e-6)


def test_inputs_follow_forwards_argument_names_and_every_element_type_comes_back(caller):
    values = {
        "b": np.array([[True, False]]),
        "u8": np.array([[0, 255]], np.uint8),
        "i8": np.array([[-128, 127]], np.int8),
        "i16": np.array([[-(2**15), 2**15 - 1]], np.int16),
        "i32": np.array([[-(2**31), 2**31 - 1]], np.int32),
        "i64": np.array([[-(2**63), 2**63 - 1]], np.int64),
        "f16": np.array([[1.5, -65504]], np.float16),
        "f32": np.array([[1e-38, 3e38]], np.float32),
        "f64": np.array([[1e-300, 3e300]], np.float64),
    }
    answer = caller("types", values)
    assert answer.status == 200, answer.error
    for number, value in enumerate(values.values()):
        got = answer.arrays[f"OUTPUT__{number}"]
        assert got.dtype == value.dtype
        np.testing.assert_array_equal(got, value)


def test_inputs_may_be_numbered_and_outputs_follow_the_configuration(caller):
    one, two = np.full((3, 2), 1, np.float32), np.full((3, 2), 2, np.float32)
    answer = caller("named", {"INPUT__0": one, "INPUT__1": two})
    np.testing.assert_array_equal(answer.arrays["difference"], one - two)
    np.testing.assert_array_equal(answer.arrays["total"], one + two)


def test_only_the_requested_outputs_come_back(caller):
    one = np.ones((1, 2), np.float32)
    assert list(caller("named", {"INPUT__0": one, "INPUT__1": one}, ["total"]).arrays) == ["total"]


def test_a_forward_with_one_dictionary_gets_it(caller):
    left, right = np.full((2, 2), 5, np.float32), np.full((2, 2), 3, np.float32)
    np.testing.assert_array_equal(caller("dictionary", {"left": left, "right": right}).arrays["y"], left - right)


def test_strings_are_lists(caller):
    answer = caller("strings", {"text": np.array([["añb"], ["hello"]], dtype=object)})
    np.testing.assert_array_equal(answer.arrays["n"], [[4], [5]])  # TorchScript counts bytes
    assert [text.decode() for text in answer.arrays["u"].ravel()] == ["AñB", "HELLO"]


# Errors while answering


def test_only_the_request_that_makes_the_model_fail_gets_the_error(caller):
    values = [4.0, 9.0, -1.0, 16.0]
    with ThreadPoolExecutor(len(values)) as pool:
        answers = list(pool.map(lambda v: caller("root", {"x": np.full((1, 2), v, np.float32)}), values))
    for value, answer in zip(values, answers, strict=True):
        if value < 0:
            assert answer.status == 500
            assert "model 'root' failed: ValueError: negative value" in answer.error
            assert not re.search(r"Traceback|/\w+/|\.py\b", answer.error)
        else:
            np.testing.assert_array_equal(answer.arrays["y"], np.full((1, 2), value**0.5, np.float32))


@pytest.mark.parametrize(
    ("model", "value", "reason"),
    [
        ("wrong", 1, r"output 'y' has shape \[1, 2\], expected \[3, 2\]"),
        ("wrong", -1, "expects datatype TYPE_FP32 for output 'y', model provides TYPE_FP16"),
        ("dictionary_out", 1, "output 'y' must be Tensor, the model gives dict"),
    ],
)
def test_an_answer_that_is_not_what_the_configuration_says_is_an_error(caller, reference, model, value, reason):
    answer = caller(model, {"x": np.full((3, 2), value, np.float32)})
    assert answer.status == 500
    assert re.search(reason, answer.error), answer.error
    np.testing.assert_array_max_ulp(caller("linear", {"x": rows(2)}).arrays["y"], reference(rows(2)), 1)


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ({"x": np.ones((1, 4), np.float64)}, "'x' data-type is 'FP64'"),
        ({"x": np.ones((1, 5), np.float32)}, "'x'"),
        ({"x": np.ones((9, 4), np.float32)}, "batch-size must be <= 8"),
        ({"z": np.ones((1, 4), np.float32)}, "'z'"),
        ({}, "'x'"),
    ],
)
def test_a_wrong_request_is_refused_by_name_and_the_next_right_one_answered(caller, reference, inputs, named):
    answer = caller("linear", inputs)
    assert answer.status == 400
    assert named in answer.error
    np.testing.assert_array_max_ulp(caller("linear", {"x": rows(2)}).arrays["y"], reference(rows(2)), 1)
