"""What stands around the weights of an ONNX file: versions, inputs, outputs, where its data lie.

Only these bytes are read, whatever the file's size, and without the package `onnx`: a protobuf message says of each
part how long it is, so that the weights are stepped over. Field numbers: onnx/onnx.proto.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

from modelport.errors import SourceFormatError
from modelport.spec import VARIES

_MAX_PARTS = 20_000_000
_MAX_TEXT_BYTES = 1 << 20
_EXTERNAL = 1
Span: TypeAlias = tuple[int, int]  # offset of a part and of what follows it


@dataclass(frozen=True, kw_only=True)
class Value:
    """An input or output.

    Attributes:
        name: Its name.
        dtype: Number in `onnx.TensorProto.DataType`; 0 for what is no tensor.
        shape: -1 for a size that varies or is not stated; None where the rank is not stated.
    """

    name: str
    dtype: int
    shape: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is known of a model without its weights.

    Attributes:
        ir_version: Version of the file format.
        opsets: Domain to version; the domain of ONNX's own operators is the empty one.
        inputs: What must be given.
        optional: Inputs that have a value in the file and may be given.
        outputs: In order.
        functions: Domains that the file itself defines functions in.
        locations: Names of the external data files.
    """

    ir_version: int
    opsets: dict[str, int]
    inputs: tuple[Value, ...]
    optional: tuple[Value, ...]
    outputs: tuple[Value, ...]
    functions: frozenset[str]
    locations: frozenset[str]


def read(path: Path) -> Header:
    """Read the header of an ONNX file.

    Raises:
        SourceFormatError: It is no ONNX file, or cut off.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        message = _Message(file=file, size=file.seek(0, io.SEEK_END))
        try:
            return _header(message)
        except (EOFError, UnicodeDecodeError) as exc:
            raise SourceFormatError(
                f"{path} cannot be read as ONNX",
                why=str(exc) or "it ends too soon, or is damaged",
                fix="copy the file again, or export the model again",
                path=str(path),
            ) from exc


@dataclass(kw_only=True)
class _Message:
    """A file that holds a protobuf message."""

    file: BinaryIO
    size: int
    parts: int = field(default=0)

    def fields(self, span: Span) -> Iterator[tuple[int, int | Span]]:
        """Field number and value of each part: a number, or where its bytes are."""
        at, stop = span
        while at < stop:
            self.parts += 1
            if self.parts > _MAX_PARTS:
                raise EOFError("it has too many parts")
            self.file.seek(at)
            tag = self._varint()
            wire = tag & 7
            value: int | Span
            if wire == 0:
                value = self._varint()
                at = self.file.tell()
            elif wire == 2:
                length = self._varint()
                start = self.file.tell()
                at = start + length
                value = (start, at)
            elif wire in (1, 5):
                at = self.file.tell() + (8 if wire == 1 else 4)
                value = 0
            else:
                raise EOFError(f"there is no protobuf part at byte {at}")
            if at > stop:
                raise EOFError("it ends too soon")
            yield tag >> 3, value

    def text(self, value: int | Span) -> str:
        start, stop = _span(value)
        if stop - start > _MAX_TEXT_BYTES:
            raise EOFError("a name in it is too long")
        self.file.seek(start)
        return self.file.read(stop - start).decode("utf-8")

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.file.read(1)
            if not byte:
                raise EOFError("it ends too soon")
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
        raise EOFError("a number in it is damaged")


def _span(value: int | Span) -> Span:
    if isinstance(value, int):
        raise EOFError("a part in it is of another kind")
    return value


def _number(value: int | Span) -> int:
    if not isinstance(value, int):
        raise EOFError("a part in it is of another kind")
    return value - 2**64 if value >= 2**63 else value


def _header(message: _Message) -> Header:
    ir_version, opsets, graph = 0, {}, None
    functions: set[str] = set()
    for number, value in message.fields((0, message.size)):
        if number == 1:
            ir_version = _number(value)
        elif number == 7:
            graph = _span(value)
        elif number == 8:
            domain, version = _opset(message, _span(value))
            opsets[domain] = version
        elif number == 25:
            functions |= {message.text(v) for n, v in message.fields(_span(value)) if n == 10}
    if graph is None or not ir_version:
        raise EOFError("it holds no graph")
    inputs, outputs, stored, locations = _graph(message, graph)
    return Header(
        ir_version=ir_version,
        opsets=opsets,
        inputs=tuple(value for value in inputs if value.name not in stored),
        optional=tuple(value for value in inputs if value.name in stored),
        outputs=tuple(outputs),
        functions=frozenset(functions),
        locations=frozenset(locations),
    )


def _opset(message: _Message, span: Span) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in message.fields(span):
        if number == 1:
            domain = message.text(value)
        elif number == 2:
            version = _number(value)
    return domain, version


def _graph(message: _Message, span: Span) -> tuple[list[Value], list[Value], set[str], set[str]]:
    inputs: list[Value] = []
    outputs: list[Value] = []
    stored: set[str] = set()
    locations: set[str] = set()
    for number, value in message.fields(span):
        if number == 11:
            inputs.append(_value(message, _span(value)))
        elif number == 12:
            outputs.append(_value(message, _span(value)))
        elif number == 5:
            name, location = _tensor(message, _span(value))
            stored.add(name)
            locations |= {location} if location is not None else set()
        elif number == 15:  # sparse: its values are a tensor
            stored |= {_tensor(message, _span(v))[0] for n, v in message.fields(_span(value)) if n == 1}
    return inputs, outputs, stored, locations


def _tensor(message: _Message, span: Span) -> tuple[str, str | None]:
    """The name of a stored tensor, and the file that holds its data; None for data that are in the model."""
    name, location, external = "", "", False
    for number, value in message.fields(span):
        if number == 8:
            name = message.text(value)
        elif number == 13:
            entry = {n: message.text(v) for n, v in message.fields(_span(value)) if n in (1, 2)}
            location = entry.get(2, "") if entry.get(1) == "location" else location
        elif number == 14:
            external = value == _EXTERNAL
    return name, location if external else None


def _value(message: _Message, span: Span) -> Value:
    name, dtype, shape = "", 0, None
    for number, value in message.fields(span):
        if number == 1:
            name = message.text(value)
        elif number == 2:
            for kind, inner in message.fields(_span(value)):
                if kind == 1:  # a tensor; sequences, maps and optionals are others
                    dtype, shape = _type(message, _span(inner))
    return Value(name=name, dtype=dtype, shape=shape)


def _type(message: _Message, span: Span) -> tuple[int, tuple[int, ...] | None]:
    dtype, shape = 0, None
    for number, value in message.fields(span):
        if number == 1:
            dtype = _number(value)
        elif number == 2:
            shape = tuple(_dim(message, _span(v)) for n, v in message.fields(_span(value)) if n == 1)
    return dtype, shape


def _dim(message: _Message, span: Span) -> int:
    sizes = [_number(value) for number, value in message.fields(span) if number == 1]
    return sizes[-1] if sizes and sizes[-1] >= 0 else VARIES
