"""Source: a Keras 3 model. On Keras's torch backend it is a torch module, so it takes the torch way.

The backend is chosen when keras is first imported; this module is the only one that imports it.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import torch

from modelport.convert.inputs import BATCH, InputDeclaration
from modelport.convert.quiet import quiet
from modelport.convert.source_torch import Flat, TorchSource, dict_keys
from modelport.convert.types import Declaration
from modelport.errors import EnvironmentUnfitError, ExampleInputError, SourceFormatError, UnsafeSourceError
from modelport.spec import dtype_of

MADE_UP_NAME = re.compile(r"(keras_tensor|input_layer|input)(_\d+)?")


class KerasCall(torch.nn.Module):
    """A Keras model behind positional tensors, in inference mode.

    Args:
        model: The model.
        names: Names of the tensors in the order in which they will come.
        own: The model's names for its inputs, in its order; tensors with these names are put into that order.
        keys: Whether the model takes a dict of tensors with these names instead of a list.
    """

    def __init__(self, model: Any, names: tuple[str, ...], own: tuple[str, ...], *, keys: bool) -> None:
        super().__init__()
        self.model = model
        self.own = own
        self.keys = keys
        same = len(own) == len(names) and set(own) == set(names)
        self.order = tuple(names.index(name) for name in own) if same else tuple(range(len(names)))

    def forward(self, *tensors: torch.Tensor) -> Any:
        """Call the model with one tensor, a list, or a dict, as its input structure wants."""
        ordered = [tensors[place] for place in self.order]
        if self.keys:
            return self.model(dict(zip(self.own, ordered, strict=True)), training=False)
        return self.model(ordered[0] if len(ordered) == 1 else ordered, training=False)


def from_model(model: Any, declaration: Declaration) -> TorchSource:
    """A source from a Keras model in memory.

    Raises:
        EnvironmentUnfitError: Keras was imported with another backend than torch.
        ExampleInputError: They are not as many as the model's inputs, or it does not run on them.
    """
    if keras.backend.backend() != "torch":
        raise EnvironmentUnfitError(
            f"Keras runs on its {keras.backend.backend()} backend here",
            why="the backend is fixed when keras is first imported, and a model can be exported on torch's only",
            fix="save the model to a .keras file and export that, or set KERAS_BACKEND=torch before importing keras",
        )
    names = tuple(declaration.example_inputs)
    keys = isinstance(getattr(model, "_inputs_struct", None), dict)
    order = tuple(d.name for d in declared(model))
    if order and len(order) != len(names):
        raise ExampleInputError(
            f"{len(names)} example inputs were given for {declaration.name!r}: {', '.join(names)}",
            why=f"the model has {len(order)}: {', '.join(order)}",
            fix="give one array for each of them, under these names or in their order",
        )
    call = KerasCall(_copied(model), names, order, keys=keys)
    own = dict_keys(call, keywords=False, declaration=declaration)
    if not own and not isinstance(getattr(model, "output", None), Mapping):
        layers = tuple(getattr(model, "output_names", None) or ())
        own = layers if len(layers) > 1 else ()  # one alone is the last layer's, such as dense_2: it says nothing
    flat = Flat(call, names, keywords=False)
    return TorchSource(flat, declaration, framework=f"keras {keras.__version__}", own_output_names=own)


def load(path: Path) -> Any:
    """The Keras model in a checked file."""
    try:
        with quiet():
            return keras.saving.load_model(str(path), compile=False, safe_mode=True)
    except Exception as exc:
        text = str(exc).strip()
        if "Lambda" in text or "unsafe" in text or "Could not locate class" in text:
            raise UnsafeSourceError(
                f"{path.name} needs code that is not Keras's own",
                why=text.splitlines()[0][:400],
                fix="load it in your own program with the custom classes and call modelport.export(model, ...)",
                path=str(path),
            ) from exc
        raise SourceFormatError(
            f"Keras cannot read {path.name}",
            why=f"{type(exc).__name__}: {text.splitlines()[0][:400] if text else 'no message'}",
            fix="save the model again with Keras 3 (model.save('model.keras'))",
            path=str(path),
        ) from exc


def declared(model: Any) -> tuple[InputDeclaration, ...]:
    """The inputs as a built Keras model states them; sizes that it leaves open vary. Empty when it was never built."""
    try:
        tensors = [(name, tuple(t.shape), str(t.dtype)) for name, t in _inputs(model)]
    except (AttributeError, ValueError, TypeError):
        return ()
    return tuple(
        InputDeclaration(
            name=name,
            dtype=dtype_of(dtype),
            sizes=tuple(
                BATCH if axis == 0 and size is None else f"axis_{axis}" if size is None else size
                for axis, size in enumerate(shape)
            ),
        )
        for name, shape, dtype in tensors
    )


def _inputs(model: Any) -> list[tuple[str, Any]]:
    """Names and symbolic tensors: the keys where the model takes a dict, else the tensors' own names.

    A name that Keras made up counts the tensors of the process and would differ from run to run: it becomes `input`.
    """
    structure = getattr(model, "_inputs_struct", None)
    if isinstance(structure, dict):
        return list(structure.items())
    tensors = list(model.inputs)
    return [
        (("input" if len(tensors) == 1 else f"input_{i}") if MADE_UP_NAME.fullmatch(t.name) else t.name, t)
        for i, t in enumerate(tensors)
    ]


def _copied(model: Any) -> Any:
    """A copy on the CPU. Keras copies through the model's config; a class that it cannot rebuild is used as it is."""
    try:
        with quiet():
            return copy.deepcopy(model).cpu().eval()
    except Exception:
        return model
