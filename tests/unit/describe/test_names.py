"""Python names for tensors, and texts as Python writes them."""

from __future__ import annotations

import ast
import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.describe import names
from modelport.spec import TENSOR_NAME


@pytest.mark.parametrize(
    ("tensors", "wanted"),
    [
        (["image"], ["image"]),
        (["class", "None"], ["class_", "None_"]),
        (["x:0", "x.0", "x_0"], ["x_0_", "x_0_2", "x_0"]),
        (["np", "self", "LABELS", "best_labels"], ["np_", "self_", "LABELS_", "best_labels_"]),
        (["_", "__"], ["t", "t_"]),
        (["a" * 50, "a" * 60], ["a" * 36, "a" * 36 + "_"]),
    ],
)
def test_names_stay_as_near_as_may_be(tensors, wanted):
    assert list(names.identifiers(tensors).values()) == wanted


@given(st.lists(st.from_regex(TENSOR_NAME, fullmatch=True), unique=True, max_size=8))
def test_every_tensor_gets_a_name_of_its_own_that_python_takes(tensors):
    given_names = list(names.identifiers(tensors).values())
    assert len(set(given_names)) == len(tensors)
    assert all(name.isidentifier() and not keyword.iskeyword(name) and len(name) < 45 for name in given_names)


@given(st.text())
def test_a_literal_is_the_text(text):
    assert ast.literal_eval(names.literal(text)) == text


@pytest.mark.parametrize(
    ("model", "module"), [("digits_cnn", "digits_cnn_client"), ("3d.Net-x", "model_3d_net_x_client")]
)
def test_a_module_has_a_name_that_can_be_imported(model, module):
    assert names.module(model) == module and module.isidentifier()
