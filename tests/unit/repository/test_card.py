"""A model card says what the maker said, which tensors there are, and how near the artefact came."""

from __future__ import annotations

from modelport.repository.card import Card, render

FULL = Card(
    title="Digits",
    description="Reads a digit.",
    source="trained here",
    data="MNIST",
    licence="MIT",
    metrics={"accuracy": 0.98765, "loss": 12},
    notes="Grey images only.",
)


def test_everything_that_was_said_is_in_the_card(make_spec, make_tensor):
    spec = make_spec(inputs=(make_tensor("image", "UINT8", (-1, 28)),))
    text = render(FULL, spec, {"version": "3", "size": "7 bytes"})
    for part in (
        "# Digits\n", "Reads a digit.", "| source | trained here |", "| data | MNIST |", "| licence | MIT |",
        "| version | 3 |", "| size | 7 bytes |", "- input `image: UINT8[?,28]`", "- output `y: FP32[2]`",
        "Up to 32 samples a request.", "| accuracy | 0.9877 |", "| loss | 12 |", "Grey images only.",
    ):  # fmt: skip
        assert part in text


def test_what_was_not_said_leaves_no_empty_rows(make_spec):
    text = render(Card(title="Net", description="A net."), make_spec(batch=0), {})
    assert "licence" not in text and "| |" not in text and "Metrics" not in text and "Notes" not in text
    assert "No batch axis." in text
