"""TorchScript archives: their pickles, and the files that their code could touch.

`torch.jit.load` (torch 2.13) reads `data.pkl` and `constants.pkl` with an unpickler in C++, which knows only tensors
and the classes in `code/`; it cannot run Python. It compiles `code/**.py`, and **runs `__setstate__`** of the classes
in it while it reads. That language can write a file (`aten::save`), map one into memory (`aten::from_file`), and
call the operators of any library that is loaded. So the pickles must hold what TorchScript writes, which also
keeps `torch.load` of such a file from running code, and the code must not name these.

An archive with `model.json` is of torch 1.0, read by another reader: refused.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from modelport.convert.hostile import archives, pickles
from modelport.convert.hostile.refusals import Place, reading, words

MAX_CODE_BYTES = 64 << 20

_GLOBALS = "|".join(
    [
        pickles.TENSOR_GLOBALS,
        r"__torch__(\.[A-Za-z0-9_]+)+",
        r"torch\.jit\._pickle\.[a-z_]+",
        r"torch\._utils\._rebuild_(qtensor|sparse_tensor|meta_tensor_no_storage)",
        r"builtins\.complex",
        r"torch\.(per_tensor_affine|per_tensor_symmetric|per_channel_affine|per_channel_symmetric|q[u]?int[0-9x]+)",
    ]
)
_CUSTOM_CLASS = re.compile(r"__torch__\.torch\.classes\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)")
_OWN_CLASSES = words("quantized rnn sparse xnnpack mkldnn profiler")
_OWN_NAMESPACES = words("prim aten prims quantized quantization _quantized sparse mkldnn mkldnn_prepacked mkl onednn")
_FILE_OPERATORS = words("save from_file")
_OUTSIDE = _FILE_OPERATORS | words("rpc_async rpc_sync rpc_remote PythonOp IgnoredPythonOp")

# What torch prints: names, numbers, one-line strings in double quotes, punctuation. No comments, no continued lines.
_TOKEN = re.compile(
    r'[A-Za-z_][A-Za-z0-9_]*|"(?:[^"\\\n]|\\.)*"|[0-9][A-Za-z0-9_.]*|[ \t]+|\n|[-+*/%&|^~<>=!.,:@()\[\]{}]'
)
_NO_CODE_FIX = "save the model again without it, or export it from Python with modelport.export(model, ...)"
_SAVE_AGAIN = "save it again with torch.jit.save"


def check_torchscript(path: Path) -> None:
    """Refuse a TorchScript archive that would run more than a computation on tensors.

    Args:
        path: The file.

    Raises:
        SourceFormatError: It is no TorchScript, cut off, damaged, or needs custom operators or classes.
        UnsafeSourceError: A pickle that is not TorchScript's, or code that reads or writes files.
    """
    members = archives.check_zip(path)
    place = Place(path=path)
    folder = next(iter(members), "").split("/")[0]
    inner = {name.removeprefix(f"{folder}/") for name in members}
    if any(not name.startswith(f"{folder}/") for name in members) or not {"data.pkl", "constants.pkl"} <= inner:
        raise place.malformed("this is not the archive of one TorchScript model", fix=_SAVE_AGAIN)
    if "model.json" in inner or not any(name.startswith("code/") for name in inner):
        raise place.malformed("this TorchScript model is older than torch 1.1", fix=_SAVE_AGAIN)
    with reading(place), path.open("rb") as file:
        for name, member in members.items():
            here = place.inside(name)
            if name.endswith(".py"):
                _check_code(archives.read(file, member, place, limit=MAX_CODE_BYTES), here)
            elif name.endswith(".pkl"):
                content = archives.read(file, member, place, limit=pickles.MAX_PICKLE_BYTES)
                _check_pickle(content, here)


def _check_pickle(content: bytes, here: Place) -> None:
    pickles.scan(
        io.BytesIO(content),
        here,
        allowed=_GLOBALS,
        why="TorchScript does not write this; Python would run what it calls for",
        fix=_SAVE_AGAIN,
    )
    for _, _, wanted in pickles.opcodes(io.BytesIO(content), here):
        _check_class(_CUSTOM_CLASS.match(wanted), here)


def _check_class(found: re.Match[str] | None, here: Place) -> None:
    if found and found[1] not in _OWN_CLASSES:
        raise here.malformed(
            f"it needs the custom class {found[1]}::{found[2]}",
            why="custom classes come in a shared library, which is never loaded with a model",
            fix="save the model without it",
        )


def _check_code(content: bytes, here: Place) -> None:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise here.malformed("the code in it is not readable", why=str(exc)) from exc
    for found in _CUSTOM_CLASS.finditer(text):
        _check_class(found, here)
    tokens = [token for token in _tokens(text, here) if not token.isspace()]
    for index, token in enumerate(tokens):
        before, after = tokens[index - 1] if index else "", [*tokens[index + 1 : index + 4], "", "", ""]
        if token in _OUTSIDE and after[0] != ":":  # "save : int" declares an attribute
            raise here.unsafe(f"its code uses {token!r}", why="that reads, writes or calls outside", fix=_NO_CODE_FIX)
        if token in ("torch", "ops") and before != ".":
            _check_namespace(token, after, here)
        elif token == "getattr" and before != ".":  # noqa: S105 - a word of the code, not a password
            _check_getattr(tokens, index, here)


def _tokens(text: str, here: Place) -> list[str]:
    """The words of the code; refuses what torch does not print, because it could be read in two ways."""
    found: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or (match[0] == '""' and text.startswith('"', match.end())):
            line = text.count("\n", 0, at) + 1
            raise here.unsafe(
                f"its code has {text[at : at + 20]!r} in line {line}",
                why="torch does not write such code; it may hide something",
                fix=_SAVE_AGAIN,
            )
        found.append(match[0])
        at = match.end()
    return found


def _check_namespace(token: str, after: list[str], here: Place) -> None:
    """Operators are called by their full name; an alias for all of them would hide which."""
    if after[0] == ":":  # an attribute of that name is declared
        return
    if after[0] != "." or not after[1].isidentifier():
        raise here.unsafe(f"its code uses {token!r} as a value", why="that hides what it calls", fix=_NO_CODE_FIX)
    if token == "ops" and (after[1] not in _OWN_NAMESPACES or after[2] != "."):  # noqa: S105
        raise here.malformed(
            f"it needs custom operators of {after[1]!r}",
            why="custom operators come in a shared library, which is never loaded with a model",
            fix="save the model with operators of torch only",
        )


def _check_getattr(tokens: list[str], index: int, here: Place) -> None:
    """`getattr(value, "name")` names an attribute by a string, which must be a plain one."""
    depth = 0
    for at in range(index + 1, len(tokens)):
        depth += (tokens[at] in "([{") - (tokens[at] in ")]}")
        if depth == 0:
            comma, name = tokens[at - 2 : at] if at >= index + 4 else ("", "")
            if comma == "," and re.fullmatch(r'"[A-Za-z0-9_.-]+"', name) and name.strip('"') not in _FILE_OPERATORS:
                return
            break
    raise here.unsafe("its code calls getattr on something else than a plain name", why="that hides what it calls")
