"""docs/callers.md names every word that a refusal of the gateway can carry, with its status."""

from __future__ import annotations

import re

from modelport.gateway.envoy import filters, listener


def test_the_table_of_errors_has_every_code(root):
    page = (root / "docs" / "callers.md").read_text()
    told = {
        (int(status), word)
        for statuses, words in re.findall(r"^\| ([\d, ]+) \|[^|]*\|([^|]*)\|", page, re.MULTILINE)
        for status in statuses.split(", ")
        for word in re.findall(r"`(\w+)`", words)
    }
    own = {(status, word) for status, (word, _) in listener._REFUSALS.items()}
    sources = root / "src" / "modelport" / "gateway" / "envoy"
    gate = filters.gate_source()
    assert len(own) >= 10 and own <= told, own - told
    words = {word for _, word in told}
    everywhere = gate + (sources / "listener.py").read_text()
    assert words <= set(re.findall(r"\w+", everywhere)), "the page tells of a word that is never said"
