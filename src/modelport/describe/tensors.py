"""`Tensor`: an input or an output, as callers send or get it; read from the model's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.spec import VARIES

LONGEST = 1 << 18  # letters of a card, or of labels


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or an output.

    Attributes:
        name: What it is called.
        datatype: As the protocol says it, such as `FP32` or `BYTES`.
        dims: Shape of one sample, without the batch axis; -1 where the size may differ.
        optional: Whether a request may leave it out.
        labels: What its values stand for, in their order; empty where that is not known.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool = False
    labels: tuple[str, ...] = ()

    def accepts(self, shape: Sequence[int], datatype: str) -> bool:
        """Whether one sample of this shape and type fits."""
        sizes = len(shape) == len(self.dims) and all(
            want in (VARIES, got) for want, got in zip(self.dims, shape, strict=True)
        )
        return sizes and datatype == self.datatype


def of(entry: Any, folder: Path) -> Tensor:
    """A tensor from its entry in a configuration.

    Args:
        entry: Of `config.input` or `config.output`.
        folder: The model's, where its label files are.
    """
    return Tensor(
        name=str(entry.name),
        datatype=datatype(entry),
        dims=tuple(map(int, entry.dims)),
        optional=bool(getattr(entry, "optional", False)),
        labels=tuple(text(path).splitlines()) if (path := label_file(entry, folder)) else (),
    )


def datatype(entry: Any) -> str:
    """The element type of a tensor's entry in a configuration, as the protocol says it."""
    word = type(entry).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[entry.data_type].name
    return "BYTES" if word == "TYPE_STRING" else str(word).removeprefix("TYPE_")


def label_file(entry: Any, folder: Path) -> Path | None:
    """An output's label file; None where it has none beside its configuration."""
    name = str(getattr(entry, "label_filename", ""))
    return folder / name if name and Path(name).name == name else None


def text(path: Path) -> str:
    """The beginning of a file's text, which is all of it as a rule; empty where there is no file to be read."""
    try:
        if not path.is_file():  # a pipe, in which nobody writes, would be waited for
            return ""
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(LONGEST)
    except OSError:
        return ""
