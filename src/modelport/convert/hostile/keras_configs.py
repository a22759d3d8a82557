"""A Keras configuration: every class and function that it names.

Loading a Keras file turns its configuration, a tree of JSON, into objects. What Keras 3.15 looks up, by reading
`keras/src/saving/serialization_lib.py` and `keras/src/legacy/saving/`:

- a dict with `class_name` names a class. With `module` it is found under that public module, or imported from it
  (`importlib.import_module`, for the packages keras, keras_hub, keras_cv, keras_nlp). Without `module` the legacy
  reader looks `class_name` up among everything that `keras.src.layers` holds. `registered_name` comes first when
  the running program registered such a class;
- `class_name: "function"` names a function, by `module` and `config`; `module: "builtins"` means one of Keras's own;
- `__lambda__` holds Python byte code; `__typespec__` a TensorFlow class;
- Lambda holds byte code, TorchModuleWrapper a pickle, TFSMLayer the path of a SavedModel, JaxLayer and FlaxLayer
  functions; the lookup layers read the file that a `vocabulary` string names.

Only Keras's own classes that models are made of, its activation functions, losses and metrics are accepted.
Keras's `safe_mode` is the second fence, not the first. `compile_config` of the whole model is not looked at,
because a model is loaded with `compile=False`, which drops it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from modelport.convert.hostile.refusals import Place, words
from modelport.errors import UnsafeSourceError

MAX_DEPTH = 200

DENIED = {
    "Lambda": "it holds Python byte code, which would run",
    "TFSMLayer": "it loads a TensorFlow SavedModel from a path",
    "TorchModuleWrapper": "it holds a pickled torch module, which would run code",
    "JaxLayer": "it holds JAX functions",
    "FlaxLayer": "it holds Flax code",
    "TFOpLambda": "it calls a TensorFlow function by name",
    "SlicingOpLambda": "it calls a TensorFlow function by name",
    "__lambda__": "it is Python byte code, which would run",
    "__typespec__": "it names a TensorFlow class",
    "TypeSpec": "it names a TensorFlow class",
    "CompositeTensor": "it names a TensorFlow class",
}
"""Class names that are refused whatever module they are said to be in, and why."""

# Values, which Keras decodes without looking anything up.
_VALUES = words("__keras_tensor__ __tensor__ __numpy__ __bytes__ __ellipsis__ __slice__ __tuple__ TensorShape")
_AREAS = (
    "layers models ops initializers regularizers constraints activations losses metrics optimizers dtype_policies "
    "quantizers random"
)
CLASS_MODULES = re.compile(
    rf"(?!.*_test)keras\.(src\.)?({'|'.join(_AREAS.split())})(\.[a-z0-9_]+)*|keras\.mixed_precision"
    r"|keras\.src\.backend\.[a-z]+\.optimizers?(\.[a-z0-9_]+)*"
)
FUNCTION_MODULES = re.compile(r"keras\.(src\.)?(activations|losses|metrics)(\.[a-z0-9_]+)*")
_TOP_CLASSES = words("Model Sequential Functional DTypePolicy FloatDTypePolicy Variable")
_CLASS_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")
_FUNCTION_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NOT_MODELLING = frozenset({"get", "serialize", "deserialize"})

ACTIVATIONS = words(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid
    log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid
    sparsemax squareplus swish tanh tanh_shrink threshold
    """
)

_OWN_CODE = "the class is not Keras's own, and loading it would import or run its code"
_CALL_EXPORT = (
    "if you trust the model: load it in a program of your own that has the code, replace that layer by Keras's own "
    "where you can, and call modelport.export(model, ...)"
)


def check_config(config: object, place: Place) -> None:
    """Refuse a configuration that names anything but Keras's own building blocks.

    Args:
        config: The parsed JSON of a whole model.
        place: Where it was found.

    Raises:
        SourceFormatError: It is not the configuration of a model.
        UnsafeSourceError: It names a class, function or file that is not acceptable; the layer is named.
    """
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str) or "config" not in config:
        raise place.malformed("the configuration is not that of a Keras model")
    trained = {key: value for key, value in config.items() if key != "compile_config"}
    for node, layer in _dicts(trained, place):
        if "class_name" in node:
            _check_object(node, layer, place)
        if isinstance(node.get("vocabulary"), str):
            raise _refusal(
                place, layer, f"reads the file {node['vocabulary']!r}", "loading it would read a file of this machine"
            )


def _dicts(config: Mapping[str, Any], place: Place) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Every dict in the tree, with the name of the layer that it belongs to."""
    stack: list[tuple[Any, str, int]] = [(config, "", 0)]
    while stack:
        node, layer, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise place.malformed(f"the configuration is nested more than {MAX_DEPTH} deep")
        if isinstance(node, dict):
            layer = _name(node) or layer
            yield node, layer
            node = list(node.values())
        if isinstance(node, list):
            stack.extend((child, layer, depth + 1) for child in node if isinstance(child, (dict, list)))


def _name(node: Mapping[str, Any]) -> str:
    """The name of the layer that a dict describes, empty when it describes something else."""
    inner = node.get("config")
    named = inner.get("name") if isinstance(inner, dict) else None
    return named if isinstance(named, str) and "class_name" in node else ""


def _check_object(node: Mapping[str, Any], layer: str, place: Place) -> None:
    class_name, module = node["class_name"], node.get("module")
    if not isinstance(class_name, str) or not isinstance(module, (str, type(None))):
        raise place.malformed(f"layer {layer!r} has a class that is not named by a string")
    if class_name in DENIED:
        raise _refusal(place, layer, f"is a {class_name}", DENIED[class_name])
    if class_name in _VALUES:
        return
    full_name = f"{module}.{class_name}" if module else class_name
    inner, registered = node.get("config"), node.get("registered_name")
    if class_name == "function":
        if not _is_own_function(module, inner):
            raise _refusal(place, layer, f"calls the function {module}.{inner}", _OWN_CODE)
    elif "module" in node and module is None:
        raise _refusal(place, layer, f"is of the class {registered or class_name!r}, of no module", _OWN_CODE)
    elif not _CLASS_NAME.fullmatch(class_name) or not _is_own_module(module, class_name):
        raise _refusal(place, layer, f"is of the class {full_name!r}", _OWN_CODE)
    if registered not in (None, class_name, inner):
        raise _refusal(place, layer, f"is of the class registered as {registered!r}", _OWN_CODE)


def _is_own_module(module: str | None, class_name: str) -> bool:
    if module is None:  # legacy: looked up among Keras's layers
        return True
    return class_name in _TOP_CLASSES if module == "keras" else bool(CLASS_MODULES.fullmatch(module))


def _is_own_function(module: str | None, name: object) -> bool:
    if not isinstance(name, str) or module is None:
        return False
    if module == "builtins":
        return name in ACTIVATIONS
    return (
        bool(FUNCTION_MODULES.fullmatch(module)) and bool(_FUNCTION_NAME.fullmatch(name)) and name not in _NOT_MODELLING
    )


def _refusal(place: Place, layer: str, found: str, why: str) -> UnsafeSourceError:
    subject = f"layer {layer!r}" if layer else "the model"
    return place.unsafe(f"{subject} {found}", why=why, fix=_CALL_EXPORT)
