"""The kinds of optimisation by name. A further kind is a module with the names of `types.Kind`, and a line here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from modelport.errors import UsageError
from modelport.optimise.types import Kind

KINDS: Mapping[str, str] = {
    "fp16": "modelport.optimise.fp16",
    "int8": "modelport.optimise.int8",
    "int8-dynamic": "modelport.optimise.int8_dynamic",
    "pruned": "modelport.optimise.pruned",
    "distilled": "modelport.optimise.distilled",
}


def kind(name: str) -> Kind:
    """The module of a kind.

    Raises:
        UsageError: There is no kind of that name.
    """
    if name not in KINDS:
        raise UsageError(
            f"a model cannot be optimised to {name!r}",
            why="there is no such kind",
            fix=f"use one of {', '.join(KINDS)}",
        )
    return cast(Kind, importlib.import_module(KINDS[name]))
