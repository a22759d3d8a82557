"""A pickle's opcodes, read without running them.

A pickle is a program: it names functions ("globals") and calls them. `scan` walks the opcodes as `pickletools`
decodes them and accepts only those that torch's own `weights_only` reader knows, and only the named globals. What
passes can build tensors, dicts, lists and numbers, and nothing else, whichever unpickler reads it.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Iterator
from typing import BinaryIO

from modelport.convert.hostile.refusals import Place, words

MAX_PICKLE_BYTES = 64 << 20
MAX_OPCODES = 2_000_000

# What torch/_weights_only_unpickler.py of torch 2.13 reads.
_OPCODES = words(
    """
    PROTO STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINFLOAT LONG1 BINUNICODE
    SHORT_BINSTRING EMPTY_LIST EMPTY_DICT EMPTY_SET EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM
    SETITEMS BINGET LONG_BINGET BINPUT LONG_BINPUT BINPERSID GLOBAL REDUCE NEWOBJ BUILD
    """
)

_DTYPES = (
    "float64 float32 float16 bfloat16 complex32 complex64 complex128 int64 int32 int16 int8 uint64 uint32 uint16 uint8 "
    "bool float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu"
)
_REBUILDERS = "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter _rebuild_parameter_with_state"

# `torch.storage` is listed by name: its `_load_from_bytes` is a whole unpickler.
TENSOR_GLOBALS = "|".join(
    [
        r"collections\.OrderedDict",
        rf"torch\._utils\.({'|'.join(_REBUILDERS.split())})",
        r"torch\.(cuda\.)?[A-Z][A-Za-z0-9]*Storage",
        r"torch\.storage\.(TypedStorage|UntypedStorage)",
        rf"torch\.({'|'.join(_DTYPES.split())})",
        r"torch\.(Size|device)",
        r"torch\.nn\.parameter\.Parameter",
        r"torch\.Tensor|torch\._tensor\._rebuild_from_type_v2",  # tensors with attributes
    ]
)
"""Regular expression of the globals that a plain state dict needs."""


def scan(
    file: BinaryIO,
    place: Place,
    *,
    allowed: str = TENSOR_GLOBALS,
    denied_opcodes: frozenset[str] = frozenset(),
    why: str,
    fix: str,
) -> None:
    """Refuse a pickle that names or does more than building tensors takes.

    Args:
        file: Where the pickle begins; afterwards, behind its STOP.
        place: For messages.
        allowed: Regular expression that every global `module.name` must match in full.
        denied_opcodes: Opcodes to refuse beside those that tensors do not need.
        why: The reason in the message of a refusal.
        fix: What to do, in that message.

    Raises:
        SourceFormatError: It is cut off or damaged.
        UnsafeSourceError: It names another global, or uses an opcode that tensors do not need.
    """
    pattern = re.compile(allowed)
    foreign = ""
    for count, (opcode, _, wanted) in enumerate(opcodes(file, place)):
        if count >= MAX_OPCODES:
            raise place.unsafe(f"the pickle has more than {MAX_OPCODES} opcodes", why=why, fix=fix)
        if wanted and (opcode != "GLOBAL" or not pattern.fullmatch(wanted)):
            raise place.unsafe(f"the pickle calls for {wanted!r}", why=why, fix=fix)
        if opcode not in _OPCODES or opcode in denied_opcodes:
            foreign = foreign or opcode  # a global that follows says more
    if foreign:
        raise place.unsafe(f"the pickle uses the opcode {foreign}", why=f"tensors do not need it; {why}", fix=fix)


def opcodes(file: BinaryIO, place: Place) -> Iterator[tuple[str, object, str]]:
    """Each opcode up to STOP: its name, its argument, and the `module.name` it looks up (empty for most).

    Raises:
        SourceFormatError: There is no STOP, or something that is no opcode before it.
    """
    strings = ["", ""]
    try:
        for opcode, argument, _ in pickletools.genops(file):
            wanted = ""
            if opcode.name in ("GLOBAL", "INST"):
                wanted = str(argument).replace(" ", ".", 1)
            elif opcode.name == "STACK_GLOBAL":
                wanted = ".".join(strings)  # right for what pickle writes, and for messages only
            elif opcode.name in ("EXT1", "EXT2", "EXT4"):
                wanted = f"copyreg extension {argument}"
            elif isinstance(argument, str):
                strings = [strings[1], argument]
            yield opcode.name, argument, wanted
    except (ValueError, IndexError, MemoryError, OverflowError) as exc:
        raise place.malformed("the pickle in it is cut off or damaged", why=str(exc)[:200]) from exc
