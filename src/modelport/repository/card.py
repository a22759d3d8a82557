"""The model card of a version: what it is, what it was trained on, under which licence, and how well it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelport.spec import ModelSpec

CARD_FILE = "card.md"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the maker of a model says about it.

    Attributes:
        title: One line.
        description: What it takes, what it gives, what it is for.
        source: Where the model comes from (trained here, published weights, ...).
        data: What it was trained and scored on.
        licence: Of weights and data.
        metrics: Task metrics of the source, by name.
        notes: What a user should know.
    """

    title: str
    description: str
    source: str = ""
    data: str = ""
    licence: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: str = ""


def render(card: Card, spec: ModelSpec, facts: Mapping[str, str]) -> str:
    """The card as Markdown.

    Args:
        card: What the maker says.
        spec: The tensors.
        facts: Rows to add: version, size, tolerances reached.
    """
    said = {"source": card.source, "data": card.data, "licence": card.licence, **facts}
    rows = [f"| {key} | {value} |" for key, value in said.items() if value]
    metrics = [f"| {name} | {value:.4g} |" for name, value in card.metrics.items()]
    tensors = [
        f"- {kind} `{tensor}`" for kind, group in (("input", spec.inputs), ("output", spec.outputs)) for tensor in group
    ]
    batch = f"up to {spec.max_batch_size} samples a request" if spec.batched else "no batch axis"
    parts = [f"# {card.title}", card.description, *(["\n".join(["| | |", "| --- | --- |", *rows])] if rows else [])]
    parts.append("## Tensors\n\n" + "\n".join(tensors) + f"\n\n{batch[0].upper()}{batch[1:]}.")
    if metrics:
        parts.append(
            "## Metrics of the source model\n\n" + "\n".join(["| metric | value |", "| --- | --- |", *metrics])
        )
    if card.notes:
        parts.append(f"## Notes\n\n{card.notes}")
    return "\n\n".join(parts) + "\n"
