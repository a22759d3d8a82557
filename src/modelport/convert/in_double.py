"""Run a torch module with all its arithmetic in float64, whatever types are written into its forward.

The reference for tolerances comes from here. Converting a module's weights is not enough: a `.float()` in its forward,
or Keras, whose operators promote to 32 bits at most, would take the rest of the way back to float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

_WIDE = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex32: torch.complex128,
    torch.complex64: torch.complex128,
}


class InDouble(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, every operator takes and gives float64 where it would take or give a shorter float."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operator."""
        if func is torch.ops.aten.view.dtype:
            raise NotImplementedError("the bits of a float are read as another type")
        named = dict(kwargs or {})
        if func._schema.is_mutable and isinstance(args[0], torch.Tensor) and args[0].dtype in _WIDE:
            return func(*args, **named)  # written in place: the tensor keeps the type it has
        run: Callable[..., Any] = func
        return _pytree.tree_map(_widened, run(*_pytree.tree_map(_widened, args), **_pytree.tree_map(_widened, named)))


def _widened(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(_WIDE[value.dtype]) if value.dtype in _WIDE else value
    return _WIDE.get(value, value) if isinstance(value, torch.dtype) else value
