"""A table of labelled rows: what it lacks is said with what it has, and where its columns went."""

from __future__ import annotations

import pytest

from modelport.errors import DataError
from modelport.evaluate.data import read
from modelport.spec import ModelSpec, TensorSpec, dtype_of


def spec(*inputs):
    tensors = tuple(TensorSpec(name=name, dtype=dtype_of(kind), dims=dims) for name, kind, dims in inputs)
    return ModelSpec(name="m", inputs=tensors, outputs=tensors, max_batch_size=8)


PAIR = spec(("x", "FP32", (2,)))


@pytest.mark.parametrize(
    ("text", "words", "fix"),
    [
        ("", "it is empty", "a header"),
        ("a,b,kind\n1,2,0\n", "no column 'labels'; it has a, b, kind", "'labels'"),
        ("a,b,label\n1,2,0\n", "no column 'labels'; it has a, b, label", "'labels' in place of 'label'"),
        ("a;b;labels\n1,5;2;0\n", "separated by ';': its first line is 'a;b;labels'", "by commas"),
        ("a\tb\tlabels\n1\t2\t0\n", "separated by tabs", "by commas"),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n", "no header: its first line is 5.1, 3.5, setosa", "the columns' names"),
        ("a,b,labels\n", "a header and no rows", "a line for each row"),
        ("a,b,labels\n1,2,0\n1,2\n", "line 3 has another number of cells: 2, the header has 3", "as many cells"),
        ("a,a,labels\n1,2,0\n", "two columns 'a'", "a name of its own"),
        ("a,b,c,labels\n1,2,3,0\n", "3 columns (a, b, c) for x [2]", "a column for each number"),
        ("a,b,labels\n1,two,0\n", "could not convert string to float", "numbers"),
    ],
)
def test_a_table_that_cannot_be_used_says_what_it_has(tmp_path, text, words, fix):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "d.csv", PAIR)
    assert words in caught.value.why and fix in caught.value.fix


def test_columns_that_are_taken_by_their_order_are_told(tmp_path):
    """Another order gives other scores; nobody else could see why."""
    (tmp_path / "d.csv").write_text("b,a,labels\n1,2,0\n\n3,4,1\n")
    found = read(tmp_path / "d.csv", PAIR)
    assert found.columns == "by their order, not their names: b, a -> x[0] to x[1]"
    assert found.inputs["x"].tolist() == [[1, 2], [3, 4]], "an empty line is no row"
    (tmp_path / "d.csv").write_text("b,a,labels\n1,2,0\n")
    named = read(tmp_path / "d.csv", spec(("a", "FP32", (1,)), ("b", "FP32", (1,))))
    assert named.columns == "" and named.inputs["a"].tolist() == [[2]], "by their names, whatever their order"
