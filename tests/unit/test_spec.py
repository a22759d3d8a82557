"""Names, versions, element types and shapes: one rule each, and one table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import InvalidNameError, UsageError
from modelport.spec import (
    DTYPES,
    MAX_VERSION,
    MODEL_NAME,
    ModelSpec,
    TensorSpec,
    check_model_name,
    check_word,
    dtype_of,
    parse_target,
    parse_version,
)


def tensor(name: str = "x", dtype: str = "FP32", dims: tuple[int, ...] = (3,)) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype_of(dtype), dims=dims)


# --- element types ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_word_for_an_element_type_finds_it(dtype):
    words = [dtype, dtype.triton, dtype.config, dtype.onnx, dtype.np, np.zeros(2, dtype.np), dtype.triton.lower()]
    words += [] if dtype.triton == "BYTES" else [dtype.numpy, f"torch.{dtype.torch}"]
    assert {dtype_of(word) for word in words} == {dtype}


@pytest.mark.parametrize("word", ["string", "bytes", "str", "TYPE_STRING", "BYTES", np.array(["a"]), np.array([b"a"])])
def test_strings_of_every_kind_are_bytes(word):
    assert dtype_of(word).triton == "BYTES"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_table_agrees_with_the_frameworks(dtype):
    """The numbers and names are theirs, not ours."""
    import onnx
    import torch
    from tritonclient.grpc import model_config_pb2
    from tritonclient.utils import np_to_triton_dtype

    assert np_to_triton_dtype(dtype.np) == dtype.triton
    assert model_config_pb2.DataType.Value(dtype.config)
    assert onnx.helper.tensor_dtype_to_np_dtype(dtype.onnx) == dtype.np
    assert dtype.is_float == (dtype.triton in ("FP16", "FP32", "FP64"))
    if dtype.torch:
        assert torch.from_numpy(np.zeros(1, dtype.np)).dtype == getattr(torch, dtype.torch)


@pytest.mark.parametrize(
    "word", ["bfloat16", "BF16", "complex64", "float", "float8", "", 16, 0, np.dtype("M8[s]"), None]
)
def test_a_type_that_cannot_be_served_is_refused_with_those_that_can(word):
    with pytest.raises(UsageError) as caught:
        dtype_of(word)
    assert "float32 (FP32)" in caught.value.fix


# --- names -----------------------------------------------------------------------------------------------------------

GOOD_NAMES = ["a", "digits_cnn", "Net-2.1", "0", "x" * 63, "a.b"]
BAD_NAMES = [
    "", "x" * 64, "x" * 300, "a b", "a;id", "$(x)", "`id`", "../x", "..", ".", ".hidden", "a..b", "a/b", "/a", "a\\b",
    "-rf", "_x", "a\n", "a\x00", "a\u202eb", "é", "a|b", "a&", "a'b", 'a"b', "*", "digits.trial", "a.trial.trial",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_model_names_that_are_fine(name):
    assert check_model_name(name) == name


@pytest.mark.parametrize("name", BAD_NAMES)
def test_model_names_that_break_the_rule(name):
    with pytest.raises(InvalidNameError) as caught:
        check_model_name(name)
    error = caught.value
    assert error.name == name and error.why and error.fix and len(error.what) < 600


@given(st.text("aZ09_.-/ ;$`'\"\\|&<>*?\n\x00é\u202e", max_size=70))
def test_a_name_that_passes_is_safe_in_a_path_and_a_shell(name):
    try:
        check_model_name(name)
    except InvalidNameError:
        return
    assert (
        MODEL_NAME.fullmatch(name) and ".." not in name and name.isascii() and not set(name) & set(" /;$`'\"\\|&<>*?")
    )


@pytest.mark.parametrize("name", ["x", "_x", "image", "serving_default_x:0", "input.1", "a/b", "A" * 128])
def test_tensor_names_that_are_fine(name):
    assert tensor(name).name == name


@pytest.mark.parametrize("name", ["", "1", "a b", "-a", "a;b", "a\n", "x" * 129, 'a"b', "é", ".a", "/a"])
def test_tensor_names_that_break_the_rule(name):
    with pytest.raises(InvalidNameError) as caught:
        tensor(name)
    assert caught.value.name == name and caught.value.exit_code == 31


# --- versions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["3.tmp", "003", "0", "-1", "+1", "1" * 20, "2147483648", "", " 1", "1 ", "1\n", "1e3", "one", "٣", "1_0"]
)
def test_version_texts_that_are_no_versions(text):
    with pytest.raises(InvalidNameError) as caught:
        parse_version(text)
    assert caught.value.name == text


@given(st.integers(1, MAX_VERSION))
def test_every_version_number_is_read_as_itself(number):
    assert parse_version(str(number)) == parse_version(number) == number


@pytest.mark.parametrize("word", ["stable", "a", "V2.1_x-y", "a" * 32])
def test_a_word_is_an_alias_wherever_a_version_may_be(word):
    assert parse_target(word) == check_word(word) == word


@pytest.mark.parametrize(
    "text", ["a" * 33, "a b", "a/b", "a%2e", "é", "a\n", "-a", "_a", "003", "3.tmp", "", "2147483648"]
)
def test_what_is_neither_a_version_nor_an_alias(text):
    for parse in (parse_target, check_word):
        with pytest.raises(InvalidNameError) as caught:
            parse(text)
        assert caught.value.name == text


def test_a_number_is_a_version_and_no_alias():
    assert parse_target("3") == parse_target(3) == 3
    with pytest.raises(InvalidNameError):
        check_word("3")


# --- shapes ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), max_size=4), st.data())
def test_a_tensor_accepts_its_own_shape_and_any_size_where_it_varies(shape, data):
    varies = data.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    spec = tensor(dims=tuple(-1 if free else size for size, free in zip(shape, varies, strict=True)))
    assert spec.accepts(tuple(shape))
    assert not spec.accepts((*shape, 1))
    for axis, free in enumerate(varies):
        other = [size + 1 if axis == place else size for place, size in enumerate(shape)]
        assert spec.accepts(tuple(other)) == free


def test_a_model_whose_largest_batch_is_0_has_no_batch_axis():
    assert ModelSpec(name="m", inputs=(tensor(),), outputs=(), max_batch_size=4).batched
    assert not ModelSpec(name="m", inputs=(tensor(),), outputs=(), max_batch_size=0).batched


def test_a_tensor_reads_as_its_name_type_and_shape():
    assert str(tensor("image", "UINT8", (-1, 3))) == "image: UINT8[?,3]"
