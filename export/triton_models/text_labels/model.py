"""Triton python model: the number of a class to its name. Needs the file `labels.txt` beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def label(best: np.ndarray, labels: list[str]) -> np.ndarray:
    """Names, in an array of the same shape."""
    return np.array(labels, dtype=object)[best]


class TritonPythonModel:
    """Class number INT64 [batch, 1] to label BYTES [batch, 1]."""

    def initialize(self, args: dict[str, str]) -> None:
        self.labels = Path(__file__).with_name("labels.txt").read_text(encoding="utf-8").splitlines()

    def execute(self, requests: list) -> list:
        import triton_python_backend_utils as pb_utils

        responses = []
        for request in requests:
            best = pb_utils.get_input_tensor_by_name(request, "best").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("label", label(best, self.labels))]))
        return responses
