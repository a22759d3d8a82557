"""Weights alone, for `--weights FILE`: safetensors, or a state dict that `torch.save` wrote.

safetensors is a JSON header and raw numbers (https://huggingface.co/docs/safetensors, "Format"). `torch.save`
writes a zip archive with a pickle `data.pkl` and raw numbers, and before 1.6 a sequence of five pickles and raw
numbers. The pickles are scanned here; loading them is left to `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import io
import json
import math
import struct
from pathlib import Path
from typing import BinaryIO, Literal

from modelport.convert.hostile import archives, pickles
from modelport.convert.hostile.refusals import Place, reading, regular_file

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library
LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_LEGACY_PICKLES = ("magic number", "protocol version", "system information", "object", "storage keys")

_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}

_WHY = "weights are tensors in a dict; reading anything else would run code from the file"
_FIX = "save model.state_dict() and nothing else, best with safetensors.torch.save_file(model.state_dict(), FILE)"


def check_weights(path: Path) -> Literal["safetensors", "state_dict"]:
    """Check a file of weights without loading it.

    Args:
        path: The file; its content decides, not its name.

    Returns:
        What it is. A "state_dict" is loaded with `torch.load(weights_only=True)` and in no other way.

    Raises:
        SourceFormatError: It is missing, empty, cut off, damaged, or holds no weights.
        UnsafeSourceError: Its pickle calls for anything but tensors.
    """
    size = regular_file(path)
    place = Place(path=path)
    with reading(place), path.open("rb") as file:
        head = file.read(16)
        if head.startswith(b"PK\x03\x04"):
            check_saved(file, size, place)
            return "state_dict"
        if head.startswith(LEGACY_MAGIC[:14]):
            _check_legacy(file, place)
            return "state_dict"
        if head[:1] == b"\x80":
            _scan(file, 0, place)  # a bare pickle: say what it calls for
        if head[8:9] == b"{":
            check_safetensors(file, size, place)
            return "safetensors"
    raise place.malformed("these are no weights", why="it is neither safetensors nor a file of torch.save", fix=_FIX)


def check_saved(
    file: BinaryIO,
    size: int,
    place: Place,
    *,
    denied_opcodes: frozenset[str] = frozenset(),
    why: str = _WHY,
    fix: str = _FIX,
) -> None:
    """Check a zip archive of `torch.save`: well formed, and its pickle builds tensors only.

    Args:
        file: The open archive.
        size: Its length in bytes.
        place: For messages.
        denied_opcodes: As for `pickles.scan`.
        why: The reason in the message of a refusal.
        fix: What to do, in that message.
    """
    members = archives.members_of(file, size, place)
    roots = {name.split("/")[0] for name in members if "/" in name}
    data = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
    if len(roots) != 1 or len(data) != 1 or any("/" not in name for name in members):
        raise place.malformed("this zip archive was not written by torch.save", why="no single folder with a data.pkl")
    folder = data[0].split("/")[0]
    if f"{folder}/constants.pkl" in members or any(name.startswith(f"{folder}/code/") for name in members):
        raise place.malformed(
            "this is a TorchScript model, not weights", why="it brings its own code", fix="export the file itself"
        )
    for name, member in members.items():
        if name.endswith(".pkl"):
            content = archives.read(file, member, place, limit=pickles.MAX_PICKLE_BYTES)
            pickles.scan(io.BytesIO(content), place.inside(name), denied_opcodes=denied_opcodes, why=why, fix=fix)


def check_safetensors(file: BinaryIO, size: int, place: Place) -> None:
    """Check that a safetensors header lies in the file, and that every tensor has bytes of its own after it."""
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
    if length > min(MAX_HEADER_BYTES, size - 8):
        raise place.malformed(f"the safetensors header says it is {length} bytes long, the file has {size}")
    try:
        header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as exc:
        raise place.malformed("the safetensors header is not readable", why=str(exc)[:200]) from exc
    if not isinstance(header, dict):
        raise place.malformed("the safetensors header is not a JSON object")
    header.pop("__metadata__", None)
    spans = sorted(_span(name, entry, place) for name, entry in header.items())
    end = 0
    for begin, stop, name in spans:
        if begin != end:
            raise place.malformed(f"tensor {name!r} does not begin where the one before it ends")
        end = stop
    if end != size - 8 - length:
        raise place.malformed(f"the tensors take {end} bytes, and {size - 8 - length} follow the header")


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _span(name: str, entry: object, place: Place) -> tuple[int, int, str]:
    """First and last byte of a tensor, whose dtype and shape fit them."""
    facts = entry if isinstance(entry, dict) else {}
    bits, shape, offsets = (
        _BITS.get(str(facts.get("dtype"))),
        _counts(facts.get("shape")),
        _counts(facts.get("data_offsets")),
    )
    if bits is None or shape is None or offsets is None or len(offsets) != 2:
        raise place.malformed(f"the safetensors header's entry for tensor {name!r} is wrong")
    begin, end = offsets
    if (end - begin) * 8 != math.prod(shape) * bits:
        raise place.malformed(f"tensor {name!r} of shape {shape} does not fit its {end - begin} bytes")
    return begin, end, name


def _counts(values: object) -> list[int] | None:
    """The list of numbers from 0 that this is, or None."""
    if isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values):
        return values
    return None


def _check_legacy(file: BinaryIO, place: Place) -> None:
    """Check the five pickles in front of a file that torch.save wrote before 1.6."""
    at = 0
    for name in _LEGACY_PICKLES:
        at = _scan(file, at, place.inside(name))


def _scan(file: BinaryIO, at: int, place: Place) -> int:
    """Scan the pickle at this offset; the offset behind it."""
    file.seek(at)
    data = io.BytesIO(file.read(pickles.MAX_PICKLE_BYTES))
    pickles.scan(data, place, why=_WHY, fix=_FIX)
    return at + data.tell()
