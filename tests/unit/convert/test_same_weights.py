"""Models of one factory: the first weight that differs is found, and what is no weight is not compared."""

from __future__ import annotations

import keras
import torch

from modelport.convert.same_weights import difference


def network(*layers, initial="ones"):
    dense = keras.layers.Dense(3, kernel_initializer=initial, name="dense")
    return keras.Sequential([*layers, dense, keras.layers.Dropout(0.1), keras.layers.BatchNormalization()], name="net")


def test_the_weights_of_keras_models_are_compared_and_their_random_seeds_are_not():
    shape = keras.layers.Input((4,))
    assert difference(network(shape), network(shape)) == ""
    found = difference(network(shape, initial="glorot_uniform"), network(shape, initial="glorot_uniform"))
    assert found == "net/dense/kernel"


def test_a_keras_model_without_weights_so_far_gets_random_ones():
    assert difference(network(), network()) == "what its first run makes"


def test_models_of_other_shapes_and_more_layers_differ():
    wide, narrow = torch.nn.Linear(2, 3), torch.nn.Linear(2, 2)
    assert difference(wide, narrow) == "weight"
    same = torch.nn.Sequential(wide)
    assert difference(same, torch.nn.Sequential(wide, torch.nn.Linear(1, 1))) == "1.weight"
    assert difference(torch.nn.Sequential(wide, torch.nn.Linear(1, 1)), same) == "1.weight"


def test_numbers_that_are_none_are_alike():
    def made():
        module = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(module.weight, float("nan"))
        torch.nn.init.zeros_(module.bias)
        return module

    assert difference(made(), made()) == ""
    assert difference(made().to("meta"), made().to("meta")) == "", "there is nothing to compare"


def test_of_what_is_no_model_nothing_is_compared():
    assert difference(3, 4) == "" and difference(None, torch.nn.Linear(1, 1)) == ""
