"""Triton python model: probabilities to the name of the likeliest class. Needs the file `labels.txt` beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def label(probabilities: np.ndarray, labels: list[str]) -> np.ndarray:
    """Names, one for each row, as an array [rows, 1] of str."""
    return np.array(labels, dtype=object)[probabilities.argmax(axis=1)][:, None]


class TritonPythonModel:
    """Probabilities FP32 [batch, classes] to label BYTES [batch, 1]."""

    def initialize(self, args: dict[str, str]) -> None:
        self.labels = Path(__file__).with_name("labels.txt").read_text(encoding="utf-8").splitlines()

    def execute(self, requests: list) -> list:
        import triton_python_backend_utils as pb_utils

        responses = []
        for request in requests:
            probabilities = pb_utils.get_input_tensor_by_name(request, "probabilities").as_numpy()
            answer = label(probabilities, self.labels)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("label", answer)]))
        return responses
