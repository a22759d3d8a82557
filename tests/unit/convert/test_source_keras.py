"""A Keras model as a source: its own inputs and outputs, its float64 twin, and the caller's model left as it is."""

from __future__ import annotations

import shutil
from typing import Any

import keras
import numpy as np
import pytest

from modelport.convert.inputs import made_up
from modelport.convert.source_keras import declared, from_model, load
from modelport.convert.source_torch import TorchSource
from modelport.convert.types import Declaration
from modelport.errors import ExampleInputError, SourceFormatError

layers = keras.layers
F32 = np.float32


def sequential(*parts: Any, shape: tuple[int | None, ...] = (3,), **options: Any) -> keras.Model:
    return keras.Sequential([keras.Input(shape, **options), *parts])


def source(model: Any, inputs: dict[str, np.ndarray] | None = None, **options: Any) -> TorchSource:
    examples = made_up(declared(model)) if inputs is None else inputs
    return from_model(model, Declaration(name="net", example_inputs=examples, **options))


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, *shape)).astype(F32)


def test_a_built_model_states_its_inputs():
    image = keras.Input((8, None, 1), name="image", dtype="uint8")
    tokens = keras.Input((None,), name="tokens", dtype="int64")
    mixed = layers.Concatenate()(
        [layers.GlobalAveragePooling2D()(image), layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(tokens))]
    )
    found = declared(keras.Model([image, tokens], mixed))
    assert [(d.name, str(d.dtype), d.sizes) for d in found] == [
        ("image", "UINT8", ("batch", 8, "axis_2", 1)),
        ("tokens", "INT64", ("batch", "axis_1")),
    ]


def test_names_that_keras_made_up_are_not_kept():
    """They count the tensors of the process: the next version would have other names."""
    for _ in range(2):
        assert [d.name for d in declared(sequential(layers.Dense(1)))] == ["input"]
    one, two, three = keras.Input((1,)), keras.Input((1,), name="age"), keras.Input((1,))
    model = keras.Model([one, two, three], one + two + three)
    assert [d.name for d in declared(model)] == ["input_0", "age", "input_2"]


def test_the_keys_of_a_dict_are_the_names_and_each_tensor_goes_to_its_own():
    """Whatever order Keras sorts them into, and whatever its tensors are called."""
    last, first = keras.Input((1,), name="alpha"), keras.Input((2,), name="omega")
    model = keras.Model({"z": last, "a": first}, layers.Concatenate()([last * 10.0, first]))
    assert {d.name: d.sizes for d in declared(model)} == {"z": ("batch", 1), "a": ("batch", 2)}
    inputs = {"a": np.ones((2, 2), F32), "z": np.ones((2, 1), F32)}
    assert source(model, inputs).run(inputs)["output"].tolist() == [[10, 1, 1]] * 2
    assert source(model).run(made_up(declared(model)))["output"].shape == (4, 3)


def test_a_fixed_first_size_is_no_batch_axis():
    (only,) = declared(keras.Sequential([keras.Input(batch_shape=(4, 3)), layers.Dense(2)]))
    assert only.sizes == (4, 3) and not only.batched


def test_a_model_that_was_never_built_states_nothing():
    assert declared(keras.Sequential([layers.Dense(2)])) == ()


@pytest.mark.parametrize(
    ("parts", "shape"),
    [
        ([layers.Dense(4, activation="relu"), layers.Dense(2, activation="softmax")], (3,)),
        ([layers.Conv2D(2, 3), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(2)], (8, 8, 1)),
        ([layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(2)], (3,)),
        ([layers.LSTM(4)], (5, 3)),
    ],
    ids=["dense", "convolution", "normalisation and dropout", "recurrent"],
)
def test_the_source_answers_as_the_model_predicts_and_again_in_float64(parts, shape):
    model = sequential(*parts, shape=shape)
    made = source(model, {"x": rows(*shape)})
    answer = made.run({"x": rows(*shape)})["output"]
    assert np.abs(answer - model.predict(rows(*shape), verbose=0)).max() < 1e-6
    wide = made.run_double({"x": rows(*shape)})["output"]
    assert wide.dtype == np.float64
    assert 0 < np.abs(wide - answer).max() < 1e-5


def two_inputs(as_dict: bool) -> keras.Model:
    one, two = keras.Input((1,), name="one"), keras.Input((1,), name="two")
    return keras.Model({"one": one, "two": two} if as_dict else [one, two], one * 10.0 + two)


@pytest.mark.parametrize("as_dict", [False, True], ids=["list", "dict"])
@pytest.mark.parametrize(
    ("names", "wanted"),
    [(("one", "two"), 12), (("two", "one"), 12), (("a", "b"), 12)],
    ids=["its names", "its names in another order", "the user's names in its order"],
)
def test_inputs_reach_the_model_by_its_names_else_in_its_order(as_dict, names, wanted):
    inputs = {name: np.full((2, 1), {"one": 1, "two": 2, "a": 1, "b": 2}[name], F32) for name in names}
    assert source(two_inputs(as_dict), inputs).run(inputs)["output"].tolist() == [[wanted], [wanted]]


def test_outputs_in_a_dict_have_its_keys_as_names():
    """Not the layers' names, and each with its own values, whatever the order of the keys."""
    taken = keras.Input((3,))
    model = keras.Model(taken, {"twice": layers.Rescaling(2.0)(taken), "half": layers.Rescaling(0.5)(taken)})
    found = source(model, {"x": rows(3)}).run({"x": rows(3)})
    assert set(found) == {"twice", "half"}
    assert np.allclose(found["twice"], rows(3) * 2) and np.allclose(found["half"], rows(3) / 2)


def test_outputs_in_a_list_have_the_layers_names():
    taken = keras.Input((3,))
    model = keras.Model(taken, [layers.Dense(2, name="scores")(taken), layers.Dense(1, name="value")(taken)])
    assert {name: a.shape[1] for name, a in source(model).run(made_up(declared(model))).items()} == {
        "scores": 2,
        "value": 1,
    }


def test_one_output_is_called_output():
    """The last layer's name, such as dense_7, says nothing."""
    assert source(sequential(layers.Dense(2))).output_names == ("output",)


def test_the_callers_model_stays_as_it_is():
    model = sequential(layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(2))
    model.compile(optimizer="adam", loss="mse")
    model.fit(rows(3), rows(2), verbose=0)
    model.train()
    weights = [value.copy() for value in model.get_weights()]
    made = source(model)
    made.run(made_up(declared(model)))
    assert all(part.training for part in model.modules())
    assert all(np.array_equal(old, new) for old, new in zip(weights, model.get_weights(), strict=True))
    model.fit(rows(3), rows(2), verbose=0)


class Doubled(layers.Layer):
    """A layer that Keras cannot rebuild from a config: it is registered nowhere."""

    def call(self, inputs: Any) -> Any:
        return inputs * 2


def test_a_model_with_own_layers_is_a_source_too():
    model = sequential(Doubled(), layers.Dense(2))
    made = source(model, {"x": rows(3)})
    answer, wide = made.run({"x": rows(3)})["output"], made.run_double({"x": rows(3)})["output"]
    assert np.array_equal(answer, model(rows(3), training=False).detach().numpy())
    assert 0 < np.abs(wide - answer).max() < 1e-6


@pytest.mark.parametrize("inputs", [{"x": rows(4)}, {"x": rows(3), "y": rows(3)}], ids=["shape", "number"])
def test_inputs_that_do_not_fit_are_one_clear_error(inputs):
    with pytest.raises(ExampleInputError) as caught:
        source(sequential(layers.Dense(2)), inputs)
    assert caught.value.why and "\x1b" not in str(caught.value), "no colour codes of Keras's own"


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_a_saved_model_answers_as_the_one_that_was_saved(samples, kind):
    model = load(samples[kind])
    inputs = made_up(declared(model))
    assert np.allclose(source(model).run(inputs)["output"].sum(axis=1), 1)


def test_what_keras_cannot_read_is_a_format_error(samples, tmp_path):
    path = tmp_path / "net.keras"
    shutil.copyfile(samples["h5"], path)
    with pytest.raises(SourceFormatError, match=r"net\.keras") as caught:
        load(path)
    assert caught.value.why and caught.value.fix
