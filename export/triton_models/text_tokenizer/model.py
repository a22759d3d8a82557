"""Triton python model: texts to word numbers. Needs numpy and the file `vocabulary.txt` beside it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

LENGTH = 80  # words; longer texts are cut, shorter ones filled up with 0
PADDING, UNKNOWN = 0, 1
WORD = re.compile(r"[a-z']+")


def words(text: str) -> list[str]:
    """The words that count, in small letters."""
    return WORD.findall(text.lower())[:LENGTH]


def read_vocabulary(lines: list[str]) -> dict[str, int]:
    """Numbers of the known words: the first line is word 2."""
    return {word: number for number, word in enumerate(lines, start=UNKNOWN + 1)}


def tokens(texts: list[str], vocabulary: dict[str, int]) -> np.ndarray:
    """INT64 [texts, LENGTH]."""
    table = np.full((len(texts), LENGTH), PADDING, dtype=np.int64)
    for row, text in enumerate(texts):
        numbers = [vocabulary.get(word, UNKNOWN) for word in words(text)]
        table[row, : len(numbers)] = numbers
    return table


class TritonPythonModel:
    """Text BYTES [batch, 1] to tokens INT64 [batch, LENGTH]."""

    def initialize(self, args: dict[str, str]) -> None:
        lines = Path(__file__).with_name("vocabulary.txt").read_text(encoding="utf-8").splitlines()
        self.vocabulary = read_vocabulary(lines)

    def execute(self, requests: list) -> list:
        import triton_python_backend_utils as pb_utils

        responses = []
        for request in requests:
            texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy().ravel()
            answer = tokens([bytes(text).decode("utf-8", "replace") for text in texts], self.vocabulary)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("tokens", answer)]))
        return responses
