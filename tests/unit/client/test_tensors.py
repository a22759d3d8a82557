"""A caller's inputs are checked against the model, converted only where nothing changes, and encoded."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.client._calls import RawSpec, Tensor
from modelport.client._tensors import BATCH_UNKNOWN, decode, prepare, spec_of, without_batch_axis
from modelport.errors import RequestError
from modelport.spec import ModelSpec, TensorSpec, dtype_of


def tensor(name: str, dtype: str, *dims: int) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype_of(dtype), dims=dims)


def model(*inputs: TensorSpec, batch: int = 8) -> ModelSpec:
    return ModelSpec(name="m", inputs=inputs, outputs=(tensor("y", "FP32", 2),), max_batch_size=batch)


def sent(spec: ModelSpec, **given: object) -> np.ndarray:
    """What arrives at the server for the first input."""
    return decode(prepare(spec, given, None).inputs[0])


IMAGE = model(tensor("image", "FP32", 2, 3))
PAIR = model(tensor("a", "FP32", 1), tensor("b", "INT64", -1))


def test_a_batch_axis_is_seen_where_every_tensor_begins_with_minus_one():
    batched = spec_of("m", RawSpec(inputs=(tensor("x", "FP32", -1, 3),), outputs=(tensor("y", "FP32", -1),)))
    assert batched.max_batch_size == BATCH_UNKNOWN
    assert [t.dims for t in (*batched.inputs, *batched.outputs)] == [(3,), ()]
    plain = spec_of("m", RawSpec(inputs=(tensor("x", "INT64", -1),), outputs=(tensor("y", "FP32", 2),)))
    assert plain.max_batch_size == 0
    assert plain.inputs[0].dims == (-1,)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, ["image"]),
        ({"image": 1, "img": 1}, ["img"]),
        ({"img": 1}, ["image", "img"]),
    ],
)
def test_wrong_names_are_all_named_with_what_is_expected(given, names):
    with pytest.raises(RequestError) as caught:
        prepare(IMAGE, given, ["z"])
    for name in [*names, "z"]:
        assert repr(name) in caught.value.what
    assert "image: FP32[2,3]" in caught.value.why and "y: FP32[2]" in caught.value.why
    assert caught.value.tensor == names[0]


def test_one_sample_gets_a_batch_axis_and_a_batch_keeps_its_own():
    one = prepare(IMAGE, {"image": np.zeros((2, 3), np.float32)}, None)
    assert (one.inputs[0].shape, one.single, one.batch) == ((1, 2, 3), True, False)
    many = prepare(IMAGE, {"image": np.zeros((5, 2, 3), np.float32)}, None)
    assert (many.inputs[0].shape, many.single, many.batch) == ((5, 2, 3), False, True)
    fixed = prepare(model(tensor("x", "FP32", 3), batch=0), {"x": np.zeros(3, np.float32)}, None)
    assert (fixed.inputs[0].shape, fixed.single, fixed.batch) == ((3,), False, False)


@pytest.mark.parametrize(
    ("spec", "given", "name", "parts"),
    [
        (IMAGE, {"image": np.zeros((2, 4), np.float32)}, "image", ["[2, 3]", "[N, 2, 3]", "[2, 4]"]),
        (IMAGE, {"image": np.zeros(6, np.float32)}, "image", ["[2, 3]", "[6]"]),
        (IMAGE, {"image": np.zeros((1, 1, 2, 3), np.float32)}, "image", ["[1, 1, 2, 3]"]),
        (IMAGE, {"image": np.zeros((0, 2, 3), np.float32)}, "image", ["[0, 2, 3]", "at least one row"]),
        (IMAGE, {"image": 1.0}, "image", ["got []"]),
        (PAIR, {"a": np.zeros((2, 1), np.float32), "b": [1, 2]}, "b", ["[any]", "[2]"]),
        (PAIR, {"a": np.zeros((2, 1), np.float32), "b": [[1, 2]] * 3}, "b", ["has 2 rows", "[3, 2]"]),
        (model(tensor("x", "FP32", 3), batch=0), {"x": np.zeros((1, 3), np.float32)}, "x", ["[3], got [1, 3]"]),
    ],
)
def test_a_wrong_shape_is_refused_with_expected_and_got(spec, given, name, parts):
    with pytest.raises(RequestError) as caught:
        prepare(spec, given, None)
    assert caught.value.tensor == name
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("FP32", [1, 2]),
        ("FP32", [0.1, 2]),
        ("FP16", [1.5, -2.0]),
        ("FP64", np.array([1, 2], np.float32)),
        ("FP32", np.array([1, 2], ">f4")),
        ("INT64", np.array([1, 2], np.int32)),
        ("INT16", np.array([1, 255], np.uint8)),
        ("INT8", [-128, 127]),
        ("UINT64", [2**63, 2**64 - 1]),
        ("BOOL", [True, False]),
        ("FP32", []),
    ],
)
def test_values_that_fit_are_converted_without_loss(dtype, value):
    spec = model(tensor("x", dtype, -1))
    expected = np.asarray(value).astype(dtype_of(dtype).np)
    got = sent(spec, x=value)
    assert got.dtype == dtype_of(dtype).np
    assert np.array_equal(got, expected[np.newaxis])


@pytest.mark.parametrize(
    ("dtype", "value", "parts"),
    [
        ("FP32", np.zeros(2), ["float32 (FP32)", "float64", "astype('float32')"]),
        ("FP32", np.zeros(2, np.int32), ["int32"]),
        ("FP32", np.float64(1), ["float64"]),
        ("FP32", ["a", "b"], ["str"]),
        ("FP32", [True, False], ["bool"]),
        ("FP32", [1e39, 0], ["too large"]),
        ("FP16", [70000.0, 0], ["too large"]),
        ("FP32", [[1], [2, 3]], ["no array"]),
        ("FP32", {"a": 1}, ["object"]),
        ("INT64", [1.0, 2.0], ["float64"]),
        ("INT64", np.zeros(2, np.uint64), ["uint64"]),
        ("INT8", [1, 128], ["128", "ends at 127"]),
        ("UINT8", [-1, 1], ["ends at 255"]),
        ("INT64", [2**70, 1], ["object"]),
        ("BOOL", [0, 1], ["int64"]),
        ("BYTES", [1, 2], ["a int"]),
        ("BYTES", ["a", None], ["NoneType"]),
        ("BYTES", ["\udc80", "a"], ["not valid Unicode"]),
    ],
)
def test_values_whose_meaning_would_change_are_refused(dtype, value, parts):
    with pytest.raises(RequestError) as caught:
        sent(model(tensor("x", dtype, 2)), x=value)
    assert caught.value.tensor == "x"
    for part in (dtype, *parts):
        assert part in str(caught.value)


def test_anything_with_an_array_inside_is_taken_as_that_array():
    class Wrapped:
        def __array__(self, dtype=None, copy=None):
            return np.ones((2, 3), np.float32)

    assert np.array_equal(sent(IMAGE, image=Wrapped()), np.ones((1, 2, 3)))


@pytest.mark.parametrize("value", ["ä", "ä".encode(), ["ä"], [b"\xc3\xa4"], np.array(["ä"]), np.array(["ä"], object)])
def test_text_goes_out_as_utf8_and_comes_back_as_str(value):
    spec = model(tensor("text", "BYTES", 1))
    assert sent(spec, text=value).tolist() == [["ä"]]


def test_bytes_that_are_no_utf8_stay_bytes():
    spec = model(tensor("text", "BYTES", -1))
    assert sent(spec, text=[b"\xff", b"", "x"]).tolist() == [[b"\xff", "", "x"]]


def test_a_single_number_is_a_sample_of_one_element():
    assert sent(model(tensor("x", "FP32", 1)), x=2).tolist() == [[2.0]]
    assert sent(model(tensor("x", "FP32")), x=2).tolist() == [2.0]


@pytest.mark.parametrize(
    ("dtype", "shape", "data", "complaint"),
    [
        ("FP32", (2,), b"\0" * 7, "7 bytes"),
        ("FP32", (-1,), b"", "negative"),
        ("FP32", (2**40, 2**40), b"", "bytes"),
        ("BYTES", (1,), b"\x05\0\0\0ab", "cut off"),
        ("BYTES", (1,), b"\x05\0", "cut off"),
        ("BYTES", (2,), b"\0\0\0\0", "1 elements"),
    ],
)
def test_an_answer_whose_bytes_do_not_fit_its_shape_is_found(dtype, shape, data, complaint):
    with pytest.raises(ValueError, match=complaint):
        decode(Tensor(name="y", dtype=dtype_of(dtype), shape=shape, data=data))


def test_a_decoded_array_may_be_changed():
    array = decode(Tensor(name="y", dtype=dtype_of("FP32"), shape=(1, 2), data=b"\0" * 8))
    array[0, 0] = 1


def test_only_a_batch_of_one_loses_its_axis():
    assert without_batch_axis(np.zeros((1, 2))).shape == (2,)
    assert without_batch_axis(np.zeros(1)).shape == ()
    for shape in ((2, 2), (0,), ()):
        with pytest.raises(ValueError, match="one row"):
            without_batch_axis(np.zeros(shape))
