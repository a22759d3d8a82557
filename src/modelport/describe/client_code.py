"""A typed Python client for one model, as one file: formatted as ruff formats, and accepted by `mypy --strict`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2

from modelport._version import __version__
from modelport.describe import names
from modelport.describe.facts import Facts
from modelport.describe.tensors import Tensor
from modelport.spec import VARIES, dtype_of

WIDTH = 88  # of a line, as ruff and black have it unless they are told otherwise
LITERALS_MOST = 64  # labels that become a type
_TEMPLATE = "client.py.jinja"
_PLAIN = {"f": "float", "i": "int", "u": "int", "b": "bool", "O": "str"}


@dataclass(frozen=True, kw_only=True)
class Field:
    """A tensor as an attribute.

    Attributes:
        tensor: The tensor.
        name: The attribute.
        key: The tensor's name as a Python expression.
        annotation: Its type.
        words: What it is, in words.
        sample: An expression for a value that has its type and shape.
    """

    tensor: Tensor
    name: str
    key: str
    annotation: str
    words: str
    sample: str


def written(facts: Facts) -> str:
    """The text of the file.

    Args:
        facts: The model.

    Raises:
        UsageError: numpy cannot hold a tensor's element type.
    """
    given = _fields(facts, facts.inputs, alone=True)
    got = _fields(facts, facts.outputs, alone=False)
    labelled = next((one for one in got if one.tensor.labels), None)
    environment = jinja2.Environment(  # noqa: S701 - it is no HTML
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["doc"] = _doc
    template = (resources.files(__package__) / "templates" / _TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(template).render(
        model=facts.name,
        key=names.literal(facts.name),
        title=facts.title,
        about=_about(facts.card),
        version=facts.version,
        modelport=__version__,
        module=names.module(facts.name),
        batch=facts.max_batch_size,
        inputs=given,
        outputs=got,
        labelled=labelled,
        labels=_labels(labelled.tensor.labels) if labelled else None,
        ranked=labelled is not None and _is_ranked(labelled.tensor),
        pair=_pair,
        value=_value,
        constant=_constant,
    )


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels as Python expressions; `typed` where they are few, and no two alike."""

    lines: tuple[str, ...]
    typed: bool


def _labels(labels: Sequence[str]) -> Labels:
    lines = tuple(map(names.literal, labels))
    typed = 1 < len(lines) <= LITERALS_MOST and len(set(lines)) == len(lines)
    return Labels(lines=lines, typed=typed)


def _is_ranked(tensor: Tensor) -> bool:
    """Whether each label has a value of its own, of which the highest counts."""
    return (
        len(tensor.labels) > 1
        and VARIES not in tensor.dims
        and math.prod(tensor.dims) == len(tensor.labels)
        and dtype_of(tensor.datatype).np.kind in "fiu"
    )


def _fields(facts: Facts, tensors: Sequence[Tensor], *, alone: bool) -> list[Field]:
    """The attributes; an input may be a plain value where a sample has one (`alone`)."""
    named = names.identifiers([tensor.name for tensor in tensors])
    return [_field(facts, tensor, named[tensor.name], alone=alone) for tensor in tensors]


def _field(facts: Facts, tensor: Tensor, name: str, *, alone: bool) -> Field:
    dtype = dtype_of(tensor.datatype)
    word = {"object": "object_", "bool": "bool_"}.get(dtype.numpy, dtype.numpy)
    sizes = ["any" if dim == VARIES else str(dim) for dim in tensor.dims]
    rows = f", or [N, {', '.join(sizes)}] for a batch of N" if facts.batched else ""
    kind = "str (BYTES)" if dtype.triton == "BYTES" else f"{dtype.numpy} ({dtype.triton})"
    single = alone and all(dim == 1 for dim in tensor.dims)
    shape = tuple(1 if dim == VARIES else dim for dim in tensor.dims)
    return Field(
        tensor=tensor,
        name=name,
        key=names.literal(tensor.name),
        annotation=f"NDArray[np.{word}]" + (f" | {_PLAIN[dtype.np.kind]}" if single else ""),
        words=f"{kind} [{', '.join(sizes)}]{rows}." + ("" if name == tensor.name else f" Tensor `{tensor.name}`."),
        sample=f'np.full({shape}, "a text", object)' if dtype.triton == "BYTES" else f"np.zeros({shape}, np.{word})",
    )


def _pair(field: Field) -> str:
    """A line of a dictionary of inputs."""
    return f"        {field.key}: inputs.{field.name},"


def _constant(begin: str, items: Sequence[str]) -> str:
    """A constant tuple, on one line where it has one item that fits."""
    line = f"{begin} = ({items[0]},)"
    return (
        line
        if len(items) == 1 and len(line) <= WIDTH
        else "\n    ".join([f"{begin} = (", *(f"{one}," for one in items)]) + "\n)"
    )


def _value(field: Field) -> str:
    """A line of a call with outputs, on three lines where one is too short for it."""
    line = f"        {field.name}=answer[{field.key}],"
    return line if len(line) <= WIDTH else f"        {field.name}=answer[\n            {field.key}\n        ],"


def _about(card: str) -> str:
    """The card's first paragraph."""
    parts = [part.strip() for part in card.split("\n\n") if part.strip()]
    return parts[1] if len(parts) > 1 and parts[0].startswith("# ") and parts[1][0] not in "#|" else ""


def _doc(text: str, indent: int = 0, hanging: int = 0) -> str:
    """A text in a docstring, in lines: nothing in it ends the docstring, or is read as an escape."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    clean = " ".join(clean.split()).replace("\\", "\\\\").replace('"""', "'''")
    lines = textwrap.wrap(clean, WIDTH - indent, break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * (indent + hanging)).join(lines)
