"""Models in words, without a repository."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from modelport.describe.facts import Facts
from modelport.describe.tensors import Tensor


@pytest.fixture
def facts() -> Callable[..., Facts]:
    """`facts([tensor, ...], [...], max_batch_size=8, card="...")`: tensors as `(name, datatype, dims)` or `Tensor`."""

    def tensors(group: Sequence[Any]) -> tuple[Tensor, ...]:
        return tuple(
            one if isinstance(one, Tensor) else Tensor(name=one[0], datatype=one[1], dims=one[2]) for one in group
        )

    def make(inputs: Sequence[Any], outputs: Sequence[Any], *, name: str = "net", **more: Any) -> Facts:
        about = {"version": 1, "versions": ("1", "stable"), "max_batch_size": 8, **more}
        return Facts(name=name, inputs=tensors(inputs), outputs=tensors(outputs), **about)

    return make
