"""Whether a factory gives the same weights at each call: a forgotten `--weights` would publish random ones."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Any

import torch


def difference(one: Any, other: Any) -> str:
    """The first parameter or buffer that two models of one factory do not share; empty where there is none.

    Args:
        one: A torch module, Keras models on its torch backend among them; of anything else nothing is compared.
        other: What the factory gave at its next call.
    """
    if one is other or not isinstance(one, torch.nn.Module) or not isinstance(other, torch.nn.Module):
        return ""
    if _is_keras(one) and not one.built and not one.weights:
        return "what its first run makes"
    pairs = zip_longest(_tensors(one), _tensors(other), fillvalue=("", None))
    return next((name or second for (name, a), (second, b) in pairs if not _same(a, b)), "")


def _is_keras(model: Any) -> bool:
    return any(base.__module__.split(".")[0] == "keras" for base in type(model).__mro__)


def _tensors(model: Any) -> Iterator[tuple[str, Any]]:
    """Names and tensors, one after the other. Of a Keras model the weights: it has random seeds beside them."""
    if _is_keras(model):
        return ((weight.path, weight.value) for weight in model.weights)
    return chain(model.named_parameters(), model.named_buffers())


def _same(a: Any, b: Any) -> bool:
    """Whether these are the same numbers; what gets its numbers in the first run has random ones."""
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return False
    if torch.nn.parameter.is_lazy(a) or torch.nn.parameter.is_lazy(b):
        return False
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return a.is_meta or b.is_meta or torch.equal(_bytes(a), _bytes(b))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Of any type, and with NaN equal to itself."""
    return tensor.detach().contiguous().flatten().view(torch.uint8)
