"""Kind `int8`: weights and activations as 8-bit integers, scales set beforehand by real samples (QDQ).

For convolutional nets. What the last layers give stays in float32: its range differs more between inputs than that of
what is inside, and classes whose scores leave the range of the calibration samples would all become equal.

Where the whole model loses too much, layers get their precision back, one after the other, the one first that does most
harm for its size when it alone is quantised.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from modelport.convert.format_onnx import OnnxRunner
from modelport.convert.types import Array, Arrays, rows, take
from modelport.optimise import cpu, graph
from modelport.optimise.scoring import Score, one_by_one, request
from modelport.optimise.types import FILENAME, Made, Task

SUMMARY = "8-bit integers, scales from calibration samples; for convolutional nets"
SAMPLES = 8
OPERATORS = frozenset({*QDQRegistry, *QLinearOpsRegistry} - {"Softmax"})  # its sums are too small for 8 bits
LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Gather"})
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
CHUNK = 8  # samples whose activations are in memory together
MOST = 0.5  # of the weights may get their precision back; with more it is no int8 model any more
PROBED = 16  # samples with which a single layer's error is measured
MARGIN = 2.0
REASON = (
    "weights and activations are rounded to 8 bits, with scales that the calibration samples set; processors with and "
    "without VNNI sum them differently"
)
FIX = (
    "calibrate with more and more typical samples, try --calibration entropy or percentile, allow more with "
    "--max-drop, or use --to fp16 or int8-dynamic"
)


class _Quantizer:
    """A prepared graph with its calibrated ranges: written with any set of layers left as they are."""

    def __init__(self, task: Task) -> None:
        self._task, self.name = task, task.origin.manifest.spec.name
        self._prepared = graph.prepared(task.origin.artefact, task.scratch, model=self.name)
        graph.require_known(self._prepared, task.options.exclude)
        self.layers = graph.require_mostly(
            self._prepared,
            LAYERS,
            name=self.name,
            to="int8",
            fix="use --to int8-dynamic for LSTM, attention and dense layers, or --to fp16",
        )
        self._regions = {layer: graph.region(self._prepared, layer, self.layers) for layer in self.layers}
        self.bytes_of = {layer: size for layer, size in graph.weights(self._prepared).items() if layer in self.layers}
        self._last = graph.last(self._prepared, self.layers)
        self._after = set().union(*(self._regions[layer] - {layer} for layer in self._last))
        self.elsewhere = graph.elsewhere(self._prepared, LAYERS)
        self.reduce_range = not cpu.processor().fast
        self._ranges = self._calibrated()

    def write(self, path: Path, *, exclude: Collection[str] = (), only: str = "") -> OnnxRunner:
        """Quantise all layers but some, or only one, and load the result."""
        try:
            with graph.silent():
                quantizer = QDQQuantizer(
                    copy.deepcopy(self._prepared),
                    self._task.options.per_channel,
                    self.reduce_range,
                    QuantType.QInt8,
                    QuantType.QUInt8,
                    self._ranges,
                    sorted(self._regions[only]) if only else [],
                    sorted(self._after.union(*(self._regions.get(layer, {layer}) for layer in exclude))),
                    sorted(OPERATORS),
                    {},
                )
                quantizer.quantize_model()
        except Exception as exc:
            raise graph.failed(self.name, "quantised to int8", exc) from exc
        graph.take_out_pairs(quantizer.model.model, self._last)
        graph.save(quantizer.model.model, path, name=self.name)
        return OnnxRunner(path, [tensor.name for tensor in self._task.origin.manifest.spec.outputs])

    def _calibrated(self) -> Any:
        task, samples = self._task, self._task.data.calibration
        count = rows(samples)
        path = task.scratch / "calibrated.onnx"
        onnx.save(self._prepared, str(path))
        try:
            with graph.silent():
                calibrator = create_calibrator(
                    path,
                    sorted(OPERATORS),
                    augmented_model_path=str(task.scratch / "augmented.onnx"),
                    calibrate_method=METHODS[task.options.calibration],
                )
            for start in range(0, count, CHUNK):
                end = min(start + CHUNK, count)
                if start % (4 * CHUNK) == 0:
                    task.report(f"calibrating ({task.options.calibration}): {start} of {count} samples")
                with graph.silent():
                    calibrator.collect_data(
                        _Reader([request(samples, [row], batched=task.judge.batched) for row in range(start, end)])
                    )
            with graph.silent():
                return calibrator.compute_data()
        except Exception as exc:
            raise graph.failed(self.name, "calibrated", exc) from exc


class _Reader:
    """Samples in the form in which ONNX Runtime's calibrators ask for them."""

    def __init__(self, samples: Sequence[Arrays]) -> None:
        self._left = iter(samples)

    def get_next(self) -> Arrays | None:
        """The next one; None after the last."""
        return next(self._left, None)


def make(task: Task) -> Made:
    """Calibrate, quantise, and give layers their precision back until the drop is allowed."""
    quantizer, target = _Quantizer(task), task.folder / FILENAME
    given = task.options.exclude
    excluded, scores, errors = list(given), _scores(task, quantizer, target, given), {}
    if not task.judge.passes(scores):
        errors = _errors(task, quantizer, [layer for layer in quantizer.layers if layer not in given])
        for layer in sorted(errors, key=lambda one: -errors[one] / quantizer.bytes_of[one]):
            if sum(quantizer.bytes_of[one] for one in (*excluded, layer)) > MOST * sum(quantizer.bytes_of.values()):
                continue
            excluded.append(layer)
            task.report(f"keeping {len(excluded)} layers as they are, the last one {layer} ({_words(scores[0])})")
            scores = _scores(task, quantizer, target, excluded)
            if task.judge.passes(scores):
                break
    task.judge.require(scores, model=quantizer.name, fix=FIX)
    return Made(
        margin=MARGIN,
        reason=REASON,
        facts={
            "calibration_method": task.options.calibration,
            "weights": f"int8, {'per channel' if task.options.per_channel else 'per tensor'}"
            + (", 7 bits" if quantizer.reduce_range else ""),
            "layers_quantised": f"{len(quantizer.layers) - len(excluded)} of {len(quantizer.layers)}",
            "layers_excluded": ", ".join(
                f"{layer} ({errors[layer]:.3g})" if layer in errors else layer for layer in excluded
            ),
        },
        notes=(cpu.processor().advice, *_left_out(excluded, quantizer.elsewhere)),
    )


def _scores(task: Task, quantizer: _Quantizer, target: Path, excluded: Collection[str]) -> tuple[Score, ...]:
    return task.judge.scores(quantizer.write(target, exclude=excluded))


def _errors(task: Task, quantizer: _Quantizer, layers: Sequence[str]) -> dict[str, float]:
    """By layer: the relative error of the first output when only that layer is quantised."""
    inputs = take(task.judge.inputs, range(min(PROBED, rows(task.judge.inputs))))
    wanted = next(iter(task.judge.original.values()))[: rows(inputs)]
    found: dict[str, float] = {}
    for number, layer in enumerate(layers, start=1):
        if number % 8 == 1:
            task.report(f"measuring the error of each layer: {number} of {len(layers)}")
        runner = quantizer.write(task.scratch / "one.onnx", only=layer)
        got = next(iter(one_by_one(runner, inputs, batched=task.judge.batched).values()))
        found[layer] = relative_error(wanted, got)
    return found


def relative_error(wanted: Array, got: Array) -> float:
    """Root of the mean square difference, in proportion to that of the answers."""
    one, two = wanted.astype(np.float64), got.astype(np.float64)
    return float(np.sqrt(np.sum((one - two) ** 2) / max(np.sum(one**2), 1e-300)))


def _words(score: Score) -> str:
    return f"{score.metric} {score.after:.4g} of {score.before:.4g} so far"


def _left_out(excluded: Sequence[str], elsewhere: str) -> tuple[str, ...]:
    layers = (f"layers left in float32: {', '.join(excluded)}",) if excluded else ()
    return (*layers, f"weights that int8 does not take: {elsewhere}") if elsewhere else layers
