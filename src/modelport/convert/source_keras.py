"""Source: a Keras 3 model. On Keras's torch backend it is a torch module, so it takes the torch way.

The backend is chosen when keras is first imported; this module is the only one that imports it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import torch

from modelport.convert.inputs import BATCH, InputDeclaration
from modelport.convert.quiet import quiet
from modelport.convert.source_torch import Flat, TorchSource
from modelport.convert.types import Declaration
from modelport.errors import EnvironmentUnfitError, SourceFormatError, UnsafeSourceError
from modelport.spec import dtype_of


class KerasCall(torch.nn.Module):
    """A Keras model behind positional tensors, in inference mode."""

    def __init__(self, model: Any, structure: tuple[str, ...] | None) -> None:
        super().__init__()
        self.model = model
        self.structure = structure

    def forward(self, *tensors: torch.Tensor) -> Any:
        """Call the model with one tensor, a list, or a dict, as its input structure wants."""
        if self.structure is not None:
            return self.model(dict(zip(self.structure, tensors, strict=True)), training=False)
        return self.model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)


def from_model(model: Any, declaration: Declaration) -> TorchSource:
    """A source from a Keras model in memory.

    Raises:
        EnvironmentUnfitError: Keras was imported with another backend than torch.
        ExampleInputError: The model does not run on the example inputs.
    """
    if keras.backend.backend() != "torch":
        raise EnvironmentUnfitError(
            f"Keras runs on its {keras.backend.backend()} backend here",
            why="the backend is fixed when keras is first imported, and a model can be exported on torch's only",
            fix="save the model to a .keras file and export that, or set KERAS_BACKEND=torch before importing keras",
        )
    names = tuple(declaration.example_inputs)
    structure = _structure(model, names)
    flat = Flat(KerasCall(model, structure), names, keywords=False).cpu().eval()
    double = _double(model)
    wide = None if double is None else Flat(KerasCall(double, structure), names, keywords=False).eval()
    own = tuple(getattr(model, "output_names", None) or ())
    if len(own) == 1 and not isinstance(getattr(model, "output", None), Mapping):
        own = ()  # the last layer's name, such as dense_2, says nothing to a caller
    return TorchSource(flat, declaration, framework=f"keras {keras.__version__}", double=wide, own_output_names=own)


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
        tensors = [(t.name, tuple(t.shape), str(t.dtype)) for t in model.inputs]
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


def _structure(model: Any, names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The keys when the model takes a dict of tensors, in the order in which the tensors will come."""
    structure = getattr(model, "_inputs_struct", None)
    if not isinstance(structure, dict):
        return None
    return names if set(names) == set(structure) else tuple(structure)


def _double(model: Any) -> Any | None:
    """The same model computing in float64, or None for models that Keras cannot rebuild from their config."""
    try:
        config = _widened(keras.saving.serialize_keras_object(model))
        before = keras.config.floatx()
        keras.config.set_floatx("float64")
        try:
            double = keras.saving.deserialize_keras_object(config)
        finally:
            keras.config.set_floatx(before)
        if not double.built:
            return None
        double.set_weights(model.get_weights())
    except Exception:
        return None  # the tolerance then falls back to a fixed one, and the evidence says so
    return double


def _widened(node: Any) -> Any:
    """A serialised Keras object with every float32 policy and dtype replaced by float64, and nothing compiled."""
    if isinstance(node, dict):
        return {
            key: ("float64" if key in ("dtype", "name") and value == "float32" else _widened(value))
            for key, value in node.items()
            if key != "compile_config"
        }
    if isinstance(node, list):
        return [_widened(item) for item in node]
    return node
