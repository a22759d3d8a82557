"""Trained model to artefact: sources, formats, and how one is opened and written.

`SOURCES` and `FORMATS` are the registries; a new conversion is a module with the functions of
`types.Source` or `types.Format` and a line here (docs/add-a-conversion.md). The frameworks are imported when a
registry entry is first used.
"""

from __future__ import annotations

import importlib
from typing import cast

from modelport.convert.inputs import InputDeclaration, parse_declarations
from modelport.convert.types import Array, Arrays, Declaration, Format, Runner, Source
from modelport.errors import UsageError

FORMATS: dict[str, str] = {
    "onnx": "modelport.convert.format_onnx",
    "torchscript": "modelport.convert.format_torchscript",
}

__all__ = [
    "FORMATS",
    "Array",
    "Arrays",
    "Declaration",
    "Format",
    "InputDeclaration",
    "Runner",
    "Source",
    "format_module",
    "parse_declarations",
]


def format_module(name: str) -> Format:
    """The module of a format.

    Raises:
        UsageError: There is no such format.
    """
    if name not in FORMATS:
        raise UsageError(
            f"there is no format {name!r}", why="nothing writes it", fix=f"use one of {', '.join(FORMATS)}"
        )
    return cast(Format, importlib.import_module(FORMATS[name]))
