"""What a client can ask a server, as values: `Metadata`, `Ready`, `Infer`, and the tensors in it.

The protocols turn these into requests and their answers back (`_http`, `_grpc`); `_session` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelport.spec import DType, TensorSpec


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Which tensors does this model take and give? Answered with a `RawSpec`."""

    model: str
    version: int | str | None

    @property
    def subject(self) -> str:
        """What the question is about, for messages."""
        return _subject(self.model, self.version)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Is the server, or this model, ready to infer? Answered with a bool."""

    model: str | None
    version: int | str | None

    @property
    def subject(self) -> str:
        """What the question is about, for messages."""
        return _subject(self.model, self.version) if self.model else "the server"


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor in the form in which it travels, the same over HTTP and gRPC.

    Attributes:
        name: Its name.
        dtype: Element type.
        shape: Its shape, batch axis included.
        data: Row-major little-endian elements; for BYTES each behind its length in four bytes.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Infer:
    """Run the model. Answered with the outputs as `Tensor`s, by name.

    Attributes:
        model: Model name.
        version: Version or alias, or None for the one that the server chooses.
        inputs: All inputs.
        outputs: Names of the wanted outputs; empty for all.
        classes: 0, or how many of the highest scores are wanted as `score:index:label` in place of all numbers.
    """

    model: str
    version: int | str | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    classes: int = 0

    @property
    def subject(self) -> str:
        """What the question is about, for messages."""
        return _subject(self.model, self.version)


@dataclass(frozen=True, kw_only=True)
class RawSpec:
    """A model's tensors as the metadata endpoint tells them: `dims` may begin with a batch axis."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


Call = Metadata | Ready | Infer
Answer = RawSpec | bool | Mapping[str, Tensor]


def _subject(model: str, version: int | str | None) -> str:
    return f"model {model!r}" if version is None else f"model {model!r} version {version}"
