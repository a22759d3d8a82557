"""ONNX: where its external data lie, and which operators it needs.

The message is parsed without reading external data. Which fields can hold a tensor or a node is read from the
protobuf descriptors, so that no attribute, subgraph, function or sparse tensor is forgotten, in this version of
ONNX or a later one. Format of external data: https://onnx.ai/onnx/repo-docs/ExternalData.html
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from modelport.convert.hostile.refusals import FETCH_AGAIN, Place, reading, regular_file

OWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
# Operators of com.microsoft that read files or foreign code.
_DENIED_OPERATORS = {
    "EPContext": "it names a compiled file for an accelerator",
    "PyOp": "it calls Python code",
    "Snpe": "it holds code for an accelerator",
}
_NUMBER = re.compile(r"[0-9]{1,18}")
_BAD_LOCATION = re.compile(r"[\x00-\x1f\x7f\\*]|^/|^[A-Za-z]:|(^|/)\.{0,2}(/|$)")
_FIX_DATA = "put the data file beside the model as a plain file, or save the model with its data inside"


def check_onnx(path: Path) -> None:
    """Refuse an ONNX file whose external data lie anywhere but in plain files beside it, or with custom operators.

    Args:
        path: The file.

    Raises:
        SourceFormatError: It is cut off, damaged, no model, lacks its data file, or needs custom operators.
        UnsafeSourceError: External data outside its folder or through links, or operators that read files.
            What they point to was not opened.
    """
    regular_file(path)
    place = Place(path=path)
    model = onnx.ModelProto()
    with reading(place):
        data = path.read_bytes()
    try:
        model.ParseFromString(data)
    except DecodeError as exc:
        raise place.malformed("this is not readable ONNX", why=str(exc)[:200]) from exc
    if not model.ir_version or not model.opset_import or not (model.graph.node or model.graph.output):
        raise place.malformed("this ONNX file holds no model", why="version, operator sets or graph are missing")
    functions = {(function.domain, function.name) for function in model.functions}
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto):
            _check_tensor(message, path, place)
        elif isinstance(message, onnx.NodeProto):
            _check_node(message, functions, place)


def _holders(wanted: tuple[str, ...]) -> dict[str, list[str]]:
    """By message type, the fields through which a message of a `wanted` type can be reached from a model."""
    types: dict[str, Any] = {}
    pending = [onnx.ModelProto.DESCRIPTOR]
    while pending:
        descriptor = pending.pop()
        if descriptor.full_name not in types:
            types[descriptor.full_name] = descriptor
            pending += [field.message_type for field in descriptor.fields if field.message_type]
    reaching = set(wanted)
    while True:
        more = {
            name
            for name, descriptor in types.items()
            if any(field.message_type and field.message_type.full_name in reaching for field in descriptor.fields)
        }
        if more <= reaching:
            break
        reaching |= more
    return {
        name: [f.name for f in descriptor.fields if f.message_type and f.message_type.full_name in reaching]
        for name, descriptor in types.items()
    }


_HOLDERS = _holders(("onnx.TensorProto", "onnx.NodeProto"))


def _messages(model: onnx.ModelProto) -> Iterator[Any]:
    """Every message in the model that is, or can hold, a tensor or a node."""
    stack: list[Any] = [model]
    while stack:
        message = stack.pop()
        yield message
        for name in _HOLDERS[message.DESCRIPTOR.full_name]:
            value = getattr(message, name)
            if hasattr(value, "DESCRIPTOR"):
                if message.HasField(name):
                    stack.append(value)
            else:
                stack.extend(value)


def _check_tensor(tensor: onnx.TensorProto, path: Path, place: Place) -> None:
    if tensor.data_location != onnx.TensorProto.EXTERNAL and not tensor.external_data:
        return
    here = place.inside(f"tensor {tensor.name or '(unnamed)'}")
    facts: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key in facts:
            raise here.unsafe(f"its external data have two entries {entry.key!r}", why="programs would differ")
        facts[entry.key] = entry.value
    location = facts.get("location", "")
    if _BAD_LOCATION.search(location):
        raise here.unsafe(
            f"its data lie in {location!r}", why="that is not a plain name inside the model's folder", fix=_FIX_DATA
        )
    size = _plain_size(path.parent, location, here)
    offset, length = (_number(facts.get(key), key, here) for key in ("offset", "length"))
    if offset + length > size:
        raise here.malformed(
            f"its data are {length} bytes from byte {offset} of {location!r}, which has {size}",
            fix=FETCH_AGAIN,
        )


def _plain_size(folder: Path, location: str, here: Place) -> int:
    """The size of a data file, found without opening it; each step of its path is a plain folder or file."""
    step = folder
    parts = location.split("/")
    for index, part in enumerate(parts):
        step = step / part
        try:
            found = step.lstat()
        except (OSError, ValueError) as exc:
            raise here.malformed(
                f"its data file {location!r} is not there", why=str(exc), fix="copy it beside the model"
            ) from exc
        wanted = stat.S_ISREG if index == len(parts) - 1 else stat.S_ISDIR
        if not wanted(found.st_mode):
            raise here.unsafe(
                f"its data lie in {location!r}, which goes through a link or a special file",
                why="it may be any file of this machine",
                fix=_FIX_DATA,
            )
    if found.st_nlink > 1:
        raise here.unsafe(
            f"its data lie in {location!r}, which is a hard link",
            why="it may be any file of this machine",
            fix="copy the data file, so that it has one name only",
        )
    return found.st_size


def _number(text: str | None, key: str, here: Place) -> int:
    if text is None:
        return 0
    if not _NUMBER.fullmatch(text):
        raise here.unsafe(f"its {key} is {text!r}", why="it is negative, too large, or no number", fix=_FIX_DATA)
    return int(text)


def _check_node(node: onnx.NodeProto, functions: set[tuple[str, str]], place: Place) -> None:
    if (node.domain, node.op_type) in functions:
        return
    here = place.inside(f"node {node.name or node.op_type}")
    if node.domain not in OWN_DOMAINS:
        raise here.malformed(
            f"it needs the custom operator {node.domain}::{node.op_type}",
            why="custom operators come in a shared library, which is never loaded with a model",
            fix="export the model with operators of ONNX only",
        )
    if node.domain == "com.microsoft" and node.op_type in _DENIED_OPERATORS:
        raise here.unsafe(f"it uses the operator {node.op_type}", why=_DENIED_OPERATORS[node.op_type])
