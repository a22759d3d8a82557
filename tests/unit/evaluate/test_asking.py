"""How rows are asked for: as many at once as the model takes, trimmed where they are padded, in the model's order."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.errors import DataError
from modelport.evaluate.asking import answers
from modelport.evaluate.data import EvaluationData
from modelport.spec import ModelSpec, TensorSpec, dtype_of


class Served:
    """What `Client` does, without a server: answers the sum of each row and its negative, in the wrong order."""

    def __init__(self):
        self.shapes = []

    def spec(self, model, version):
        x = TensorSpec(name="x", dtype=dtype_of("INT64"), dims=(-1,))
        outputs = tuple(TensorSpec(name=name, dtype=dtype_of("INT64"), dims=(1,)) for name in ("sum", "less"))
        return ModelSpec(name=model, inputs=(x,), outputs=outputs, max_batch_size=1)

    def infer(self, model, *, version, inputs):
        self.shapes.append(inputs["x"].shape)
        total = inputs["x"].sum(axis=-1, keepdims=True)
        return {"less": -total, "sum": total}


def data(rows, **more):
    x = np.zeros((rows, 6), np.int64)
    x[:, 0] = np.arange(rows) + 1
    x[-1, 3] = 1
    return EvaluationData(name="rows", inputs={"x": x}, labels=np.arange(rows), **more)


def test_rows_are_asked_for_in_batches_that_the_model_takes():
    for largest, shapes in ((3, [(3, 6), (2, 6)]), (64, [(5, 6)])):
        client = Served()
        found = answers(client, "m", None, data(5), largest=largest)
        assert client.shapes == shapes
        assert list(found) == ["sum", "less"] and found["sum"].ravel().tolist() == [1, 2, 3, 4, 6]


def test_padding_is_not_sent():
    client = Served()
    found = answers(client, "m", None, data(4, padded=True), largest=2)
    assert client.shapes == [(2, 1), (2, 4)] and found["sum"].ravel().tolist() == [1, 2, 3, 5]


def test_a_model_without_batches_gets_row_after_row():
    client = Served()
    found = answers(client, "m", None, data(3), largest=0)
    assert client.shapes == [(6,)] * 3 and found["sum"].shape == (3, 1)


def test_data_with_other_inputs_is_refused():
    wrong = EvaluationData(name="rows", inputs={"y": np.zeros((2, 1))}, labels=np.zeros(2))
    with pytest.raises(DataError, match="does not fit") as caught:
        answers(Served(), "m", None, wrong, largest=1)
    assert "it has y; the model's inputs are x" in caught.value.why


def test_an_output_whose_rows_differ_in_shape_is_left_out_unless_it_is_the_one_that_counts():
    class PerStep(Served):
        def infer(self, model, *, version, inputs):
            return {**super().infer(model, version=version, inputs=inputs), self.ragged: inputs["x"]}

    client = PerStep()
    client.ragged = "less"
    assert list(answers(client, "m", None, data(4, padded=True), largest=2)) == ["sum"]
    client.ragged = "sum"
    with pytest.raises(DataError, match="cannot be scored"):
        answers(client, "m", None, data(4, padded=True), largest=2)
