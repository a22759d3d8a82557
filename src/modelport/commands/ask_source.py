"""Ask a recipe's source model itself, before any conversion: its answers are what served ones are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from modelport.convert.open_source import Request, open_source
from modelport.convert.types import Array, Arrays, rows
from modelport.recipes.recipe import Ensemble, Trained, as_rows
from modelport.verify.prove import EXAMPLE_ROWS

CHUNK_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the source model answered to the evaluation's samples.

    Attributes:
        framework: What it runs in, such as `pytorch 2.13.0`.
        answers: In its own precision, by output name.
        double: The same computed in float64; None where it does not run so.
    """

    framework: str
    answers: Arrays
    double: Arrays | None

    def noisiest(self) -> list[int]:
        """The samples on which the two differ most: a tolerance that is derived from them fits all the others."""
        noise = np.zeros(rows(self.answers))
        for name, answer in self.answers.items():
            if self.double is not None and answer.dtype.kind == "f":
                own = answer.astype(np.float64).reshape(len(answer), -1)
                apart = np.abs(own - self.double[name].reshape(own.shape).astype(np.float64))
                noise = np.maximum(noise, apart.max(axis=1) / max(np.abs(own).max(), 1e-30))
        chosen: list[int] = np.argsort(-noise, kind="stable")[:EXAMPLE_ROWS].tolist()
        return chosen


def ask_source(product: Trained | Ensemble) -> Asked:
    """Run a product's source on the samples of its evaluation.

    Raises:
        SourceError: It cannot be opened, or does not run on them.
    """
    samples = product.evaluation.inputs
    if isinstance(product, Ensemble):
        framework = product.framework
        answers, double = _in_chunks(product.answer, samples), _in_chunks(product.answer_double, samples)
    else:
        request = Request(
            name=product.name,
            example_inputs=dict(samples),
            output_names=product.output_names,
            dynamic_axes=product.dynamic_axes,
        )
        source, _ = open_source(product.model, request)
        framework = source.framework
        answers, double = _in_chunks(source.run, samples), _in_chunks(source.run_double, samples)
    return Asked(framework=framework, answers=answers, double=double or None)


def _in_chunks(run: Callable[[Mapping[str, Array]], Arrays | None], inputs: Mapping[str, Array]) -> Arrays:
    """The answers to all rows; nothing where `run` has none."""
    parts = [
        run(as_rows(inputs, slice(start, start + CHUNK_ROWS))) or {} for start in range(0, rows(inputs), CHUNK_ROWS)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
