"""What a rule takes out of a request and its answer before anything of them touches the disk.

A redacted tensor keeps its name, type and shape; its values are zeros, or empty texts. A masked one has `[redacted]` in
the place of what an expression matched, and in the place of texts that are too long to be searched. The request's id,
its parameters and the tenant are gone unless the rule asks for them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from modelport.convert.types import Array
from modelport.gateway.capture.exchange import MASKED, REDACTED, Exchange, Parameters
from modelport.gateway.capture.patterns import LONGEST, REPLACEMENT, compiled
from modelport.gateway.capture.stored import Rule

ALL_S = 1.0  # for the texts of one request and its answer; what then remains is replaced unsearched


def redact(exchange: Exchange, rule: Rule) -> Exchange:
    """The exchange without what must not be kept."""
    mask = _Mask(rule.patterns)
    marks: dict[str, str] = {}
    sides: dict[str, dict[str, Array]] = {}
    for side in ("input", "output"):
        kept = sides[side] = {}
        for name, array in getattr(exchange, f"{side}s").items():
            kept[name] = array
            if name in rule.fields:
                kept[name], marks[f"{side} {name}"] = _blank(array), REDACTED
            elif array.dtype.kind == "O" and rule.patterns:
                kept[name] = mask.array(array)
                if not np.array_equal(kept[name], array):
                    marks[f"{side} {name}"] = MASKED
    return replace(
        exchange,
        inputs=sides["input"],
        outputs=sides["output"],
        marks=marks,
        request_id=mask.text(exchange.request_id) if "id" in rule.also else "",
        parameters=mask.parameters(exchange.parameters) if "parameters" in rule.also else {},
        tenant=exchange.tenant if "tenant" in rule.also else "",
    )


class _Mask:
    """Replaces what expressions match, in a second at most."""

    def __init__(self, words: Sequence[str]) -> None:
        self._patterns = [compiled(word) for word in words]
        self._until = time.thread_time() + ALL_S

    def array(self, array: Array) -> Array:
        flat = np.empty(array.size, dtype=object)
        for index, word in enumerate(array.reshape(-1).tolist()):
            flat[index] = self.text(word) if isinstance(word, str) else self._bytes(word)
        return flat.reshape(array.shape)

    def parameters(self, parameters: Parameters) -> Parameters:
        """Names and values are searched; a number stays one where nothing matches."""
        return {self.text(name): self._value(value) for name, value in parameters.items()}

    def text(self, text: str) -> str:
        if not self._patterns or not text:
            return text
        if len(text) > LONGEST or time.thread_time() > self._until:
            return REPLACEMENT
        for pattern in self._patterns:
            text = pattern.sub(lambda _: REPLACEMENT, text)
        return text

    def _value(self, value: str | int | float | bool) -> str | int | float | bool:
        masked = self.text(str(value))
        return value if masked == str(value) else masked

    def _bytes(self, word: bytes) -> str | bytes:
        """Not UTF-8; what can be read of it is searched all the same."""
        done = self.text(word.decode("utf-8", "surrogateescape"))
        return done.encode("utf-8", "surrogateescape")


def _blank(array: Array) -> Array:
    return np.full(array.shape, "", dtype=object) if array.dtype.kind == "O" else np.zeros_like(array)
