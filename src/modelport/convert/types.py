"""The values and interfaces of conversion: what a source is, and what a format writes.

A source is a trained model that can still be run where it was made. A format writes it as an artefact that
Triton serves, and can run that artefact in this process. Arrays are numpy arrays; the framework stays inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Arrays = dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What the caller says about the model, before anything is known about it.

    Attributes:
        name: Model name.
        example_inputs: Arrays by tensor name, in the order of the model's arguments; with the batch axis in
            front unless `batched` is False.
        output_names: Names for the outputs in their order; empty to keep the model's own.
        dynamic_axes: Axes beside the batch whose size varies: input name to {axis: name}. Axes of one name
            have one size in a request.
        batched: Whether axis 0 is the batch. The claim is proved later.
        pad: Input name to the value that fills its varying axes up without changing an answer; for all inputs that
            have such axes, or for none. The claim is proved later.
    """

    name: str
    example_inputs: Arrays
    output_names: tuple[str, ...] = ()
    dynamic_axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    batched: bool = True
    pad: Mapping[str, float] = field(default_factory=dict)


class Source(Protocol):
    """A trained model that can be run as its framework runs it."""

    framework: str
    """Such as `pytorch 2.13.0`; goes into the manifest."""

    output_names: tuple[str, ...]

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """The model's own answer, in the precision it was trained in."""
        ...

    def run_double(self, inputs: Mapping[str, Array]) -> Arrays | None:
        """The answer computed in float64, or None where the model cannot be run so."""
        ...


class Runner(Protocol):
    """An artefact loaded in this process."""

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """The artefact's answer; arrays by output name."""
        ...


class Format(Protocol):
    """One kind of artefact. A module with these names is a format; `convert.FORMATS` lists them."""

    BACKEND: str
    """Triton backend that serves it."""

    FILENAME: str
    """Name of the artefact in the version folder."""

    def write(self, source: Source, declaration: Declaration, folder: Path) -> None:
        """Write the artefact into `folder`; ConversionError when the source cannot be written so."""
        ...

    def load(self, folder: Path, inputs: Sequence[str], outputs: Sequence[str], *, filename: str = ...) -> Runner:
        """Load the artefact from a version folder, to run it here; `FILENAME` unless another name is given."""
        ...


def rows(inputs: Mapping[str, Array]) -> int:
    """Number of rows (size of axis 0) of the first input."""
    return int(next(iter(inputs.values())).shape[0])


def take(inputs: Mapping[str, Array], index: Sequence[int] | NDArray[np.int64]) -> Arrays:
    """The rows with these numbers, of every array."""
    return {name: array[np.asarray(index, dtype=np.int64)] for name, array in inputs.items()}


def first_row(inputs: Mapping[str, Array]) -> Arrays:
    """The first row of every array, the batch axis kept."""
    return take(inputs, [0])
