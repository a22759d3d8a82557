"""What kind of model file is this? Found out from its first and last bytes, never by loading it.

The first step of reading a file that a stranger made: `kind_of` here, then `hostile.check`, then the module of the
source. The extension decides nothing; when it says something else than the content, the file is refused.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from modelport.convert.hostile import Kind, archives, pickles, weights
from modelport.convert.hostile.refusals import Place, reading, regular_file
from modelport.errors import ModelportError, SourceFormatError

__all__ = ["Kind", "kind_of"]

EXTENSIONS: dict[str, Kind] = {
    ".onnx": "onnx",
    ".keras": "keras",
    ".h5": "h5",
    ".hdf5": "h5",
    ".pt": "torchscript",
    ".pth": "torchscript",
    ".ts": "torchscript",
    ".torchscript": "torchscript",
    ".pt2": "exported_program",
}
_NAMES: dict[Kind, str] = {
    "onnx": "an ONNX model",
    "keras": "a Keras model",
    "h5": "an HDF5 file",
    "torchscript": "a TorchScript model",
    "exported_program": "a torch.export program",
}
# Read by Keras, which goes by the extension.
_EXTENSION_NEEDED: tuple[Kind, ...] = ("keras", "h5")

_FOREIGN = {
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"\xfd7zXZ": "an xz archive; unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstd archive; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"version https://git-lfs": "a Git LFS pointer; run `git lfs pull`",
    b"<!DOCTYPE": "a web page; download the file itself",
    b"<html": "a web page; download the file itself",
    b"TFL3": "a TensorFlow Lite model, which cannot be converted",
    b"\x93NUMPY": "a NumPy array, not a model",
    b"GGUF": "a GGUF model, which cannot be converted",
}

_STATE_DICT_FIX = (
    "a state dict: give 'package.module:factory --weights FILE' (safetensors is better still); a whole pickled "
    "module: save it with torch.jit.save or torch.export.save in the program that made it"
)
_PICKLE_WHY = "loading a pickle runs whatever code is in it; a pickled module is never loaded"
_MAX_PICKLE_HEAD_BYTES = 1 << 18
_MAX_FIELDS = 100_000
_FUNCTION = re.compile(rb"^def ([A-Za-z]\w*)\(([^()]*)\)", re.MULTILINE)  # at the top, and not private
_MOST_FUNCTIONS = 5  # in a message
# Fields of onnx.ModelProto and their wire types (0: number, 2: length-delimited), onnx/onnx.proto.
_ONNX_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_ONNX_VERSION, _ONNX_GRAPH = 1, 7


def kind_of(path: Path) -> Kind:
    """What kind of model a file holds, by its content.

    Args:
        path: The file.

    Raises:
        SourceFormatError: It is missing, a folder, empty, cut off, of no known kind, or its name says another kind.
        UnsafeSourceError: It is a pickle, or an archive with one, or a hostile archive.
    """
    size = regular_file(path)
    place = Place(path=path)
    with reading(place), path.open("rb") as file:
        kind = _by_content(file, size, place)
    named = EXTENSIONS.get(path.suffix.lower())
    if named not in (None, kind) or (named is None and kind in _EXTENSION_NEEDED):
        right = next(extension for extension, of in EXTENSIONS.items() if of == kind)
        raise place.malformed(
            f"the content is {_NAMES[kind]}, the name says {_NAMES[named] if named else 'nothing'}",
            why="the file was renamed, or another one was copied over it",
            fix=f"if the content is the right one, name the file {path.stem}{right}",
        )
    return kind


def _by_content(file: BinaryIO, size: int, place: Place) -> Kind:
    head = file.read(64)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(file, archives.members_of(file, size, place), place)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "h5"
    if head[0] == 0x80 and head[1:2] <= b"\x05":
        raise _pickle_error(file, place)
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise place.malformed(f"this is {what.split(';')[0]}", fix=what.partition("; ")[2] or "name a model file")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= weights.MAX_HEADER_BYTES:
        raise place.malformed(
            "this is a safetensors file",
            why="it holds weights and no model",
            fix="give 'package.module:factory --weights FILE'",
        )
    if _is_onnx(file, size, place):
        return "onnx"
    if place.path.suffix == ".py":
        raise _python_error(file, place)
    if _is_text_pickle(file, size, place):
        raise _pickle_error(file, place)
    raise place.malformed(
        "the content is of no known kind",
        why="the file is damaged, or comes from a program that is not supported",
        fix="give .onnx, .keras, .h5, TorchScript .pt, torch.export .pt2, or package.module:factory",
    )


def _zip_kind(file: BinaryIO, members: Mapping[str, archives.Member], place: Place) -> Kind:
    if "config.json" in members:
        return "keras"
    parts = [name.split("/", 1) for name in members]
    inner = {part[1] for part in parts if len(part) == 2 and part[0] == parts[0][0]}
    if "archive_format" in inner or any(name.startswith("models/") for name in inner):
        return "exported_program"
    if "data.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    if "data.pkl" in inner:
        raise place.unsafe(
            "torch.save wrote this file: it is a pickle, in a zip archive", why=_PICKLE_WHY, fix=_STATE_DICT_FIX
        )
    if "serialized_exported_program.json" in members:
        raise place.malformed(
            "this torch.export program was saved by torch 2.7 or older",
            why="its format is made of pickles",
            fix="save it again with torch 2.9 or later",
        )
    for name in members:
        if name.endswith((".pkl", ".pickle", ".joblib")):
            raise place.inside(name).unsafe("this member is a pickle", why=_PICKLE_WHY, fix=_STATE_DICT_FIX)
    raise place.malformed(
        "this zip archive holds no model",
        why="it was not written by Keras or torch" if members else "it is empty",
        fix="if the model is inside, unpack the archive and name the model file",
    )


def _python_error(file: BinaryIO, place: Place) -> ModelportError:
    """The refusal of a program, with the functions in it that can be called without arguments."""
    file.seek(0)
    found = _FUNCTION.findall(file.read(_MAX_PICKLE_HEAD_BYTES))
    names = [name.decode() for name, arguments in found if all(map(_optional, arguments.split(b",")))]
    own = [part for part in place.path.parts if part != "."]
    inside = not place.path.is_absolute() and ".." not in own
    module = ".".join([*own[:-1], place.path.stem]) if inside else place.path.stem
    shown = " or ".join(f"{module}:{name}" for name in names[:_MOST_FUNCTIONS]) or f"{module}:FUNCTION"
    return place.malformed(
        "this is Python source",
        why="a model is made by a function in it, which takes no arguments and returns the model",
        fix=f"name the function: {shown}" + ("" if inside else f", in the folder {place.path.parent}"),
    )


def _optional(argument: bytes) -> bool:
    return not argument.strip() or b"=" in argument or argument.strip().startswith(b"*")


def _pickle_error(file: BinaryIO, place: Place) -> ModelportError:
    """The refusal of a bare pickle, with the first thing that it would call."""
    file.seek(0)
    data = file.read(_MAX_PICKLE_HEAD_BYTES)
    if data.startswith(weights.LEGACY_MAGIC[:14]):
        found = "torch.save of before torch 1.6 wrote this file: it is a pickle"
    else:
        wanted = _first_global(data, place)
        found = f"this is a pickle, which calls for {wanted!r}" if wanted else "this is a pickle"
    return place.unsafe(found, why=_PICKLE_WHY, fix=_STATE_DICT_FIX)


def _first_global(data: bytes, place: Place) -> str:
    try:
        return next((wanted for _, _, wanted in pickles.opcodes(io.BytesIO(data), place) if wanted), "")
    except SourceFormatError:
        return ""


def _is_text_pickle(file: BinaryIO, size: int, place: Place) -> bool:
    """Whether this is a pickle of protocol 0 or 1, which begins with no mark of its own."""
    file.seek(0)
    data = io.BytesIO(file.read(_MAX_PICKLE_HEAD_BYTES))
    calls = False
    try:
        for _, _, wanted in pickles.opcodes(data, place):
            calls = calls or bool(wanted)
    except SourceFormatError:
        return calls and size > _MAX_PICKLE_HEAD_BYTES
    return calls or (data.tell() == size and size > 1)


def _is_onnx(file: BinaryIO, size: int, place: Place) -> bool:
    """Whether the top level of this protobuf message has the fields of onnx.ModelProto."""
    file.seek(0)
    seen: set[int] = set()
    for _ in range(_MAX_FIELDS):
        at = file.tell()
        if at == size:
            break
        tag = _varint(file)
        number, wire = (-1, -1) if tag is None else (tag >> 3, tag & 7)
        if _ONNX_FIELDS.get(number) != wire:
            break
        value = _varint(file)
        seen.add(number)
        if value is None or (wire == 2 and file.tell() + value > size):
            if _ONNX_VERSION in seen and number != _ONNX_VERSION:
                raise place.malformed("this begins like an ONNX model and ends too soon", why="the file is cut off")
            break
        if wire == 2:
            file.seek(value, io.SEEK_CUR)
    return {_ONNX_VERSION, _ONNX_GRAPH} <= seen


def _varint(file: BinaryIO) -> int | None:
    """A protobuf number; None when the file ends first, or it is longer than 10 bytes."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
