"""Sources from TorchScript and torch.export files, and from `package.module:factory`.

Files were checked by `sniff` and `hostile` before they get here. A factory is the user's own code, run because
the user named it; weights are read without ever running code from the file.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from modelport.convert.hostile import weights
from modelport.convert.inputs import BATCH, InputDeclaration
from modelport.convert.quiet import quiet
from modelport.convert.same_weights import difference
from modelport.errors import ConversionError, SourceFormatError, UnsafeSourceError, UsageError
from modelport.spec import dtype_of

MOST_KEYS = 12  # of a checkpoint, in a message
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # read by torch at each load


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """The module in a checked TorchScript file."""
    try:
        script: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as exc:
        raise _unreadable(path, exc, "save it again with torch.jit.save") from exc
    return script


def load_program(path: Path) -> tuple[torch.nn.Module, tuple[InputDeclaration, ...]]:
    """The module in a checked `torch.export` file (.pt2), and its inputs as the program states them."""
    try:
        with quiet(), _tensors_only():
            program = torch.export.load(str(path))
            module = program.module()
    except Exception as exc:
        raise _unreadable(path, exc, "save it again with torch.export.save") from exc
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    inputs = {str(name): values.get(str(name)) for name in program.graph_signature.user_inputs}
    odd = [name for name, value in inputs.items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise ConversionError(
            f"the program in {path.name} takes inputs that are no tensors: {', '.join(odd)}",
            why="a served model takes tensors only",
            fix="export a module that takes these values as tensors, or keeps them as attributes",
        )
    tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    free = all(value.dim() and not isinstance(value.shape[0], int) for value in tensors.values())
    return module, tuple(_declared(name, value, free) for name, value in tensors.items())


@contextlib.contextmanager
def _tensors_only() -> Iterator[None]:
    """Switch off torch's second try with full unpickling: a fence behind the checks, not instead of them."""
    before = os.environ.get(WEIGHTS_ONLY)
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        os.environ.pop(WEIGHTS_ONLY)
        if before is not None:
            os.environ[WEIGHTS_ONLY] = before


def _declared(name: str, value: torch.Tensor, batched: bool) -> InputDeclaration:
    sizes: list[int | str] = [size if isinstance(size, int) else str(size) for size in value.shape]
    if batched:
        sizes[0] = BATCH
    return InputDeclaration(name=name, dtype=dtype_of(str(value.dtype)), sizes=tuple(sizes))


def make(factory: str, weights_file: Path | None) -> Any:
    """Call `package.module:factory` and load the weights into what it gives.

    Args:
        factory: `package.module:function`; the function takes no arguments and returns a model.
        weights_file: safetensors, or a state dict that torch reads with `weights_only=True`. None where the function
            loads them: it is called twice then, and has to give the same ones.

    Raises:
        UsageError: The module or the function does not exist, or raises; or each call gives other weights.
        UnsafeSourceError: The weights hold more than tensors.
        ConversionError: Names or shapes of the weights do not fit the model.
    """
    model = _call(factory)
    if weights_file is not None:
        load_weights(model, weights_file)
        return model
    other = difference(model, _call(factory)) if isinstance(model, torch.nn.Module) else ""
    if other:
        raise UsageError(
            f"the weights of {factory!r} are random",
            why=f"each call gives others, such as in {other!r}, and no weights were given: the model is untrained",
            fix="load the weights in the function, or seed it; those of a torch module may come with --weights FILE",
        )
    return model


def _call(factory: str) -> Any:
    module_name, _, function = factory.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module_name), function)()
    except (Exception, SystemExit) as exc:  # a script that ends itself would look like success
        raise UsageError(
            f"{factory!r} gave no model",
            why=f"{type(exc).__name__}: {exc}",
            fix="name an importable function without arguments, such as 'mypackage.models:make_net'",
        ) from exc


def load_weights(model: Any, path: Path) -> None:
    """Load a checked weights file into a torch module, all names and shapes matching."""
    state = read_weights(path)
    if not isinstance(model, torch.nn.Module):
        raise UsageError(
            f"{path.name} cannot be loaded into a {type(model).__name__}",
            why="--weights is for torch modules",
            fix="let the factory load the weights itself",
        )
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as exc:
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
        raise ConversionError(
            f"the weights in {path.name} do not fit the model",
            why=" ".join(lines[1:4])[:600] or lines[0],
            fix="use the factory that the weights were trained with",
        ) from exc


def save_weights(model: torch.nn.Module, path: Path) -> None:
    """Write a torch module's parameters and buffers as safetensors; under a temporary name first."""
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    safetensors.torch.save_file(state, str(temporary))
    temporary.replace(path)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file or of a state dict."""
    kind = weights.check_weights(path)
    try:
        if kind == "safetensors":
            return safetensors.torch.load_file(str(path))
        state = torch.load(str(path), map_location="cpu", weights_only=True)
    except Exception as exc:
        unsafe = "weights_only" in str(exc) or "Weights only" in str(exc)
        raise (UnsafeSourceError if unsafe else SourceFormatError)(
            f"{path.name} holds no plain weights",
            why=f"{type(exc).__name__}: {str(exc).strip().splitlines()[0][:300] if str(exc).strip() else 'no message'}",
            fix="save them with safetensors.torch.save_file(model.state_dict(), ...)",
            path=str(path),
        ) from exc
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not _tensors(state):
        raise SourceFormatError(
            f"{path.name} holds no state dict",
            why=f"it holds {_held(state)}",
            fix=_way_out(path, state),
            path=str(path),
        )
    return state


def _held(found: Any) -> str:
    """What a file has in place of a state dict, in words."""
    if not isinstance(found, dict):
        return f"a {type(found).__name__}"
    names = ", ".join(map(repr, list(found)[:MOST_KEYS])) + (", ..." if len(found) > MOST_KEYS else "")
    states = ", ".join(map(repr, _states(found)))
    return f"a dict of {names}" + (f"; like a state dict looks {states}" if states else ", not of tensors alone")


def _way_out(path: Path, found: Any) -> str:
    """How to get at the state dict that may be inside."""
    states = _states(found) if isinstance(found, dict) else []
    if not states:
        return "save model.state_dict()"
    save = f"torch.save(torch.load({str(path)!r})[{states[0]!r}], 'weights.pt')"
    return f"save that alone: {save}; then --weights weights.pt"


def _states(found: dict[Any, Any]) -> list[Any]:
    return [key for key, value in found.items() if isinstance(value, dict) and value and _tensors(value)]


def _tensors(values: dict[Any, Any]) -> bool:
    return all(isinstance(value, torch.Tensor) for value in values.values())


def _unreadable(path: Path, exc: Exception, fix: str) -> SourceFormatError:
    text = str(exc).strip()
    return SourceFormatError(
        f"torch cannot read {path.name}",
        why=f"{type(exc).__name__}: {text.splitlines()[0][:300] if text else 'no message'}",
        fix=fix,
        path=str(path),
    )
