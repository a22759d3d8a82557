"""Example inputs: declarations are read, arrays are checked all at once, and rows are added that a model can take."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.convert.inputs import (
    MADE_UP_SIZE,
    check_declared,
    check_examples,
    different_rows,
    made_up,
    more_rows,
    parse_declarations,
    resized,
    with_texts,
)
from modelport.convert.types import Declaration
from modelport.errors import ExampleInputError, InvalidNameError, UsageError
from modelport.spec import DTYPES

F32 = np.float32


def declaration(inputs, **options) -> Declaration:
    return Declaration(name="m", example_inputs=inputs, **options)


def texts(*words: str) -> np.ndarray:
    return np.array(words, dtype=object)


# --- declarations ----------------------------------------------------------------------------------------------------


def test_a_declaration_is_read():
    image, tokens = parse_declarations(["image:float32:batch,28,28,1", "tokens:INT64: batch, time"])
    assert (image.name, str(image.dtype), image.sizes) == ("image", "FP32", ("batch", 28, 28, 1))
    assert image.batched and image.dynamic_axes(batched=True) == {}
    assert tokens.dynamic_axes(batched=True) == {1: "time"}
    assert tokens.dynamic_axes(batched=False) == {0: "batch", 1: "time"}


def test_a_declaration_may_have_no_sizes():
    (scalar,) = parse_declarations(["threshold:float32:"])
    assert scalar.sizes == () and not scalar.batched


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,10}", fullmatch=True),
            st.sampled_from(DTYPES),
            st.lists(st.one_of(st.integers(1, 99), st.sampled_from(["time", "width", "n"])), max_size=3),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda one: one[0],
    ),
    st.booleans(),
)
def test_what_was_declared_is_what_is_read_and_made_up(tensors, batched):
    """Names, types and sizes survive, made-up examples fit them, and equal words have equal sizes."""
    given_texts = [
        f"{name}:{dtype.triton}:{','.join(map(str, (['batch'] if batched else []) + sizes))}"
        for name, dtype, sizes in tensors
    ]
    found = parse_declarations(given_texts)
    assert [(d.name, d.dtype, list(d.sizes[1:] if batched else d.sizes)) for d in found] == tensors
    examples = made_up(found, count=3)
    check_declared(found, examples)
    axes = {d.name: d.dynamic_axes(batched=batched) for d in found}
    check_examples(declaration(examples, dynamic_axes=axes, batched=batched))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("image", "NAME:DTYPE:SIZES"),
        ("image:float32", "NAME:DTYPE:SIZES"),
        (":float32:batch", "NAME:DTYPE:SIZES"),
        ("image::batch", "NAME:DTYPE:SIZES"),
        ("image:float33:batch", "float33"),
        ("image:bfloat16:batch", "bfloat16"),
        ("image:float32:batch,0", "size 0"),
        ("image:float32:batch,-1", "size -1"),
        ("image:float32:3,batch", "only be the first"),
        ("image:float32:batch,batch", "only be the first"),
        ("image:float32:batch,a b", "'a b'"),
        ("image:float32:batch,2.5", "'2.5'"),
        ("image:float32:batch,²", "²"),
    ],
)
def test_a_declaration_that_cannot_be_read_is_quoted(text, complaint):
    with pytest.raises(UsageError) as caught:
        parse_declarations([text])
    assert repr(text) in caught.value.what and complaint in caught.value.what
    assert "--input" in caught.value.fix


def test_all_wrong_declarations_are_listed_together():
    with pytest.raises(UsageError) as caught:
        parse_declarations(["a:float32:batch,3", "a:float32:batch,3", "b:nope:batch", "c:int8:3", "d"])
    for part in ("'a' is declared twice", "nope", "'d'", "some inputs have 'batch'"):
        assert part in caught.value.what


def test_a_declared_name_that_breaks_the_rule_is_refused():
    with pytest.raises((InvalidNameError, UsageError), match="a b"):
        parse_declarations(["a b:float32:batch"])


def test_an_input_that_is_too_large_is_not_made_up():
    """A slip in a size must not take all memory."""
    with pytest.raises(ExampleInputError) as caught:
        made_up(parse_declarations(["x:float32:batch,99999999999"]))
    assert caught.value.tensor == "x" and "--samples" in caught.value.fix


def test_made_up_whole_numbers_stay_small_and_words_are_words():
    examples = made_up(parse_declarations(["n:int64:batch,50", "b:bool:batch", "t:string:batch,time"]), count=5)
    assert set(np.unique(examples["n"])) == {0, 1}
    assert examples["b"].dtype == bool and examples["t"].shape == (5, MADE_UP_SIZE)
    assert all(isinstance(word, str) for word in examples["t"].ravel())


# --- checks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "options", "complaints"),
    [
        ({}, {}, ["no input at all"]),
        ({"x": [[1.0, 2.0]]}, {}, ["'x' is a list"]),
        ({"x": np.zeros((0, 3), F32)}, {}, ["'x' has shape (0, 3)"]),
        ({"x": np.float32(1) + np.zeros((), F32)}, {}, ["'x'"]),
        ({"x": np.array([[np.nan]], F32)}, {}, ["'x' holds NaN"]),
        ({"x": np.array([[np.inf]], np.float16)}, {}, ["'x' holds NaN or infinity"]),
        ({"x": np.zeros((2, 3), F32), "y": np.zeros((3, 3), F32)}, {}, ["'x' has 2", "'y' has 3"]),
        ({"t": texts("a", "b").reshape(2, 1), "u": np.array([[1], [None]], object)}, {}, ["'u' holds NoneType, int"]),
        ({"x": np.zeros((2, 3), F32)}, {"dynamic_axes": {"z": {1: "n"}}}, ["'z', which is no input"]),
        ({"x": np.zeros((2, 3), F32)}, {"dynamic_axes": {"x": {0: "n"}}}, ["no axis 0 beside the batch"]),
        ({"x": np.zeros((2, 3), F32)}, {"dynamic_axes": {"x": {2: "n"}}}, ["no axis 2"]),
        (
            {"x": np.zeros((2, 3), F32), "y": np.zeros((2, 4), F32)},
            {"dynamic_axes": {"x": {1: "time"}, "y": {1: "time"}}},
            ["'time' has size 3", "4 in 'y'"],
        ),
        ({"x": np.zeros((2, 0), F32), "y": np.array([[np.nan]], F32)}, {}, ["'x' has", "'y' holds", "rows"]),
    ],
)
def test_examples_that_cannot_be_used_are_named_all_at_once(inputs, options, complaints):
    with pytest.raises(ExampleInputError) as caught:
        check_examples(declaration(inputs, **options))
    for complaint in complaints:
        assert complaint in caught.value.what
    assert caught.value.why and caught.value.fix


TOKENS = np.ones((2, 5), np.int64)
VARYING = {"dynamic_axes": {"x": {1: "time"}}}


def test_values_to_fill_up_with_fit_the_types_of_the_inputs():
    check_examples(declaration({"x": TOKENS}, **VARYING, pad={"x": -1}))
    check_examples(declaration({"x": TOKENS.astype(F32)}, **VARYING, pad={"x": 0.5}))


@pytest.mark.parametrize(
    ("inputs", "options", "complaint"),
    [
        ({"x": TOKENS}, {"pad": {"x": 0}}, "pad names 'x', which has no axis that varies"),
        ({"x": TOKENS}, {**VARYING, "pad": {"z": 0}}, "pad names 'z', which has no axis that varies"),
        ({"x": TOKENS}, {**VARYING, "pad": {"z": 0}}, "'x' varies too and has no value in pad"),
        ({"x": TOKENS}, {**VARYING, "pad": {"x": 0.5}}, "of type int64 and cannot be filled up with 0.5"),
        (
            {"x": TOKENS.astype(np.int8)},
            {**VARYING, "pad": {"x": 128}},
            "of type int8 and cannot be filled up with 128",
        ),
        (
            {"x": TOKENS.astype(F32)},
            {**VARYING, "pad": {"x": np.nan}},
            "of type float32 and cannot be filled up with nan",
        ),
        ({"x": TOKENS.astype(np.float16)}, {**VARYING, "pad": {"x": 0}}, "of type float16"),
        ({"x": texts("a")[None]}, {**VARYING, "pad": {"x": 0}}, "of type object"),
        ({"x": TOKENS}, {**VARYING, "pad": {"x": 0}, "batched": False}, "with a batch axis only"),
    ],
)
def test_values_that_cannot_fill_up_are_refused(inputs, options, complaint):
    with pytest.raises(ExampleInputError) as caught:
        check_examples(declaration(inputs, **options))
    assert complaint in str(caught.value)


def test_a_type_that_cannot_be_served_is_refused_as_example():
    with pytest.raises(UsageError, match="complex64"):
        check_examples(declaration({"x": np.zeros((2, 3), np.complex64)}))


def test_without_a_batch_axis_inputs_may_have_any_first_size_and_none():
    check_examples(declaration({"x": np.zeros((2, 3), F32), "s": np.zeros((), F32)}, batched=False))
    check_examples(declaration({"x": np.zeros((2, 3), F32)}, dynamic_axes={"x": {0: "rows"}}, batched=False))


def test_samples_that_are_not_what_was_declared_are_named():
    declared = parse_declarations(["x:float32:batch,3", "n:int64:batch"])
    check_declared(declared, {"x": np.zeros((5, 3), F32), "n": np.zeros(5, np.int64)})
    with pytest.raises(ExampleInputError) as caught:
        check_declared(declared, {"x": np.zeros((5, 4), F32), "m": np.zeros(5, np.int64)})
    assert "float32[batch,3]" in caught.value.what and "[5, 4]" in caught.value.what and "'m'" in caught.value.what
    with pytest.raises(ExampleInputError, match="float64"):
        check_declared(declared[:1], {"x": np.zeros((5, 3))})


# --- rows ------------------------------------------------------------------------------------------------------------


def test_rows_that_are_enough_and_differ_stay_as_they_are():
    inputs = {"x": np.arange(18, dtype=F32).reshape(6, 3), "n": np.zeros((6, 1), np.int64)}
    assert all(np.array_equal(more_rows(inputs, 6)[name], inputs[name]) for name in inputs)


def test_rows_that_differ_come_first():
    """A proof takes the first rows; equal ones prove nothing."""
    made = more_rows({"x": np.array([[1.0], [1.0], [2.0], [1.0], [3.0]], F32)}, 3)
    assert made["x"].ravel().tolist() == [1, 2, 3, 1, 1]


@pytest.mark.parametrize(
    "rows",
    [
        np.ones((8, 3), F32),
        np.ones((1, 3), np.float16),
        np.zeros((2, 3)),
        np.array([[3, 7, 7, 2]]),
        np.array([[True, False], [False, True]]),
        texts("a", "b", "a", "c").reshape(2, 2),
    ],
    ids=lambda array: f"{array.dtype}-{len(array)}",
)
def test_rows_are_added_until_enough_differ(rows):
    made = more_rows({"x": rows}, 6)["x"]
    assert len(made) >= 6 and made.dtype == rows.dtype and made.shape[1:] == rows.shape[1:]
    assert len(different_rows({"x": made}, 99)) > 1
    assert np.array_equal(made[0], rows[0])


def test_rows_that_cannot_differ_are_still_given():
    made = more_rows({"n": np.full((1, 2), 5)}, 6)["n"]
    assert made.shape == (6, 2) and set(made.ravel()) == {5}


def test_made_up_ids_stay_in_the_range_of_their_own_column():
    """A user's number would be out of range as an item's."""
    pairs = np.array([[900, 1], [3, 4], [7, 0]])
    made = more_rows({"pair": pairs}, 50)["pair"]
    assert set(made[:, 0]) <= {900, 3, 7} and set(made[:, 1]) <= {1, 4, 0}


def test_made_up_floats_stay_within_what_was_given():
    given_rows = np.random.default_rng(0).uniform(0, 1, size=(3, 100)).astype(F32)
    made = more_rows({"x": given_rows}, 20)["x"]
    assert made.min() >= given_rows.min() and made.max() <= given_rows.max()


def test_added_rows_are_the_same_in_every_run():
    inputs = {"x": np.arange(3, dtype=F32).reshape(3, 1)}
    assert np.array_equal(more_rows(inputs, 9)["x"], more_rows(inputs, 9)["x"])


def test_varying_axes_change_together_and_never_vanish():
    inputs = {"a": np.arange(6, dtype=F32).reshape(2, 3), "b": np.ones((2, 3, 4), F32), "c": np.ones((2, 5), F32)}
    varying = declaration(inputs, dynamic_axes={"a": {1: "time"}, "b": {1: "time"}})
    longer, shorter = resized(varying, inputs, 2), resized(varying, inputs, -9)
    assert (longer["a"].shape, longer["b"].shape, longer["c"].shape) == ((2, 5), (2, 5, 4), (2, 5))
    assert longer["a"][0].tolist() == [0, 1, 2, 0, 1]
    assert shorter["a"].shape == (2, 1)


# --- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.array([["a", "ü"]]),
        np.array([[b"a", "ü".encode()]]),
        np.array([[b"a", "ü"]], dtype=object),
        np.array([["a", "ü"]], dtype=object),
    ],
    ids=["U", "S", "bytes", "str"],
)
def test_strings_of_every_kind_become_python_strings(array):
    made = with_texts({"t": array, "x": np.ones(2)})
    assert made["t"].dtype == object and made["t"].tolist() == [["a", "ü"]]
    assert made["x"].dtype == np.float64
