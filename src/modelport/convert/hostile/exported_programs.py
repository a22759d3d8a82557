"""`torch.export` programs (`.pt2`): a zip archive of JSON, raw weights, and pickles.

What torch 2.13 does with one (`torch/export/__init__.py`, `torch/export/pt2_archive/_package.py`,
`torch/_export/serde/serialize.py`), and what is therefore accepted here:

- `data/sample_inputs/*.pt`, and `data/weights/<model>.pt`, `data/constants/<model>.pt` of older versions, are read
  with `torch.load(weights_only=True)` and, **when that fails, with `weights_only=False`**: their pickles must
  build tensors only, so that neither runs code;
- payloads with `use_pickle` in a `*_config.json` are read with `torch.load(weights_only=False)`: the same;
- `data/constants/opaque_obj_*` go through `pickle.loads`, `custom_obj_*` through the C++ unpickler of custom
  classes: refused;
- `data/aotinductor/` holds shared libraries, which are loaded: refused;
- `models/*.json` is a graph. Its symbolic sizes are evaluated (`sympy.sympify`), its guards executed, its names
  written into generated Python code, its targets looked up as attributes of `torch` (which reaches `torch.os`), and
  the tree specs in it import modules (`defaultdict`, enums): every string is checked by what it is used for, and all
  others may hold letters, digits, `_`, `.` and `-` only;
- when reading fails, torch tries the format of 2.7 and older, members without a folder: refused by `sniff` and here.

`TORCH_FORCE_WEIGHTS_ONLY_LOAD=1` in the environment additionally turns off the second try.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from modelport.convert.hostile import archives, weights
from modelport.convert.hostile.expressions import check_guard, check_symbolic
from modelport.convert.hostile.refusals import Place, load_json, reading, words

MAX_PROGRAM_BYTES = 256 << 20
MAX_PICKLED_BYTES = 1 << 30
MAX_EMPTY_ELEMENTS = 1 << 24

_PROGRAM = re.compile(r"models/[A-Za-z0-9_]+\.json")
_CONFIG = re.compile(r"data/(weights|constants)/[A-Za-z0-9_]+_config\.json")
_PICKLED = re.compile(r"data/sample_inputs/.*|data/(weights|constants)/.*\.pt")
_DENIED = {
    "data/aotinductor/": "it holds machine code, which would be loaded",
    "data/constants/opaque_obj_": "it is a pickle of a Python object",
    "data/constants/custom_obj_": "it is an object of a custom class, which needs a shared library",
}

_NAME = re.compile(r"[A-Za-z0-9_.-]{0,512}")
_TEXT = re.compile(r"[^'\"\\\x00-\x1f\x7f]{0,1000}")
_FREE_TEXT = words("stack_trace nn_module_stack source_fn_stack torch_fn custom from_node torch_version")

_OPERATOR = re.compile(r"torch\.ops\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)(\.[A-Za-z][A-Za-z0-9_]*)?")
_OWN_NAMESPACES = words("aten prims quantized_decomposed")
_HIGHER_ORDER = words(
    "cond while_loop scan associative_scan map_impl wrap_with_set_grad_enabled wrap_with_autocast flex_attention "
    "invoke_subgraph"
)
_DENIED_OPERATORS = words("from_file save")
_FUNCTION = re.compile(
    r"_operator\.(eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|pow|truediv|and_|or_|xor|not_|lshift|rshift|getitem)"
    r"|math\.[a-z0-9]+|torch\.(sym_[a-z]+|_sym_[a-z]+)"
)
_TREES = words("builtins.tuple builtins.list builtins.dict collections.OrderedDict collections.deque")
_SAVE_AGAIN = "save it again with torch.export.save"
_NEEDS_CODE = "the program needs this Python class"


def check_exported_program(path: Path) -> None:
    """Refuse a `.pt2` archive that would run code when `torch.export.load` reads it, or the program is called.

    Args:
        path: The file.

    Raises:
        SourceFormatError: It is no such archive, cut off, damaged, or needs custom operators or Python classes.
        UnsafeSourceError: A pickle that calls for more than tensors, machine code, or text that is code.
    """
    members = archives.check_zip(path)
    place = Place(path=path)
    folder = next(iter(members), "").split("/")[0]
    stray = [name for name in members if not name.startswith(f"{folder}/")]
    inner = {name.split("/", 1)[1]: member for name, member in members.items() if name not in stray}
    if stray or not any(_PROGRAM.fullmatch(name) for name in inner):
        raise place.malformed(
            f"the archive holds {stray[0]!r} outside its folder" if stray else "the archive holds no program",
            fix=_SAVE_AGAIN,
        )
    with reading(place), path.open("rb") as file:
        for name, member in inner.items():
            _check_member(file, name, member, inner, place)


def _check_member(
    file: BinaryIO, name: str, member: archives.Member, inner: Mapping[str, archives.Member], place: Place
) -> None:
    here = place.inside(member.name)
    for prefix, why in _DENIED.items():
        if name.startswith(prefix):
            raise here.unsafe("this member is not loaded from a stranger's file", why=why, fix=_SAVE_AGAIN)
    if _CONFIG.fullmatch(name) or name.startswith("models/"):
        if name.startswith("models/") and not _PROGRAM.fullmatch(name):
            raise here.malformed("this is not the name of a program", fix=_SAVE_AGAIN)
        content = load_json(archives.read(file, member, place, limit=MAX_PROGRAM_BYTES), here)
        _check_strings(content, here)
        if _CONFIG.fullmatch(name):
            _check_payloads(file, content, name.rsplit("/", 1)[0], inner, here, place)
    elif _PICKLED.fullmatch(name) and member.size_bytes:
        _check_pickled(file, member, place)


def _check_pickled(file: BinaryIO, member: archives.Member, place: Place) -> None:
    """Check an archive of torch.save inside the archive.

    BUILD is refused too: under `weights_only=False` it could change torch's own classes.
    """
    here = place.inside(member.name)
    data = archives.read(file, member, place, limit=MAX_PICKLED_BYTES)
    if not data.startswith(b"PK\x03\x04"):
        raise here.unsafe("this is a bare pickle", why="torch would run whatever code is in it", fix=_SAVE_AGAIN)
    weights.check_saved(
        io.BytesIO(data),
        len(data),
        here,
        denied_opcodes=frozenset({"BUILD"}),
        why="torch would read it with weights_only=False and run what it calls for",
        fix="export the program with plain tensors as example inputs, and save it again",
    )


def _check_payloads(
    file: BinaryIO, config: object, folder: str, inner: Mapping[str, archives.Member], here: Place, place: Place
) -> None:
    """Check the members that a `*_config.json` says are pickles, and that no empty one states a giant tensor."""
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise here.malformed("this is not a list of weights", fix=_SAVE_AGAIN)
    for name, entry in entries.items():
        member = inner.get(f"{folder}/{entry.get('path_name')}")
        if member is None:
            raise here.malformed(f"the weight {name!r} is not in the archive")
        if entry.get("use_pickle"):
            _check_pickled(file, member, place)
        elif not member.size_bytes and _elements(entry) > MAX_EMPTY_ELEMENTS:
            raise here.unsafe(f"the weight {name!r} has a giant shape and no data", why="it would fill the memory")


def _elements(entry: Mapping[str, Any]) -> int:
    meta = entry.get("tensor_meta")
    sizes = meta.get("sizes") if isinstance(meta, dict) else None
    given = [size.get("as_int") for size in sizes if isinstance(size, dict)] if isinstance(sizes, list) else []
    counts = [value for value in given if isinstance(value, int)]
    product = int(0 not in counts)
    for count in counts:
        product *= count
        if product > MAX_EMPTY_ELEMENTS:
            break
    return product


def _check_strings(content: object, place: Place) -> None:
    """Check every string in the JSON by the key that it stands under."""
    for key, value in _leaves(content, place):
        if key in ("expr_str", "target", "as_operator", "in_spec", "out_spec", "guards_code"):
            if not isinstance(value, str):
                raise place.malformed(f"{key!r} is not text")
            _CHECKS[key](value, place)
        elif isinstance(value, str) and key not in _FREE_TEXT:
            pattern = _TEXT if key in ("as_string", "as_strings") else _NAME
            if not pattern.fullmatch(value):
                raise place.unsafe(
                    f"{key!r} is {value[:100]!r}", why="torch writes this text into Python code that it runs"
                )


def _leaves(content: object, place: Place) -> Iterator[tuple[str, object]]:
    """Every value that is no dict or list, with the key that it, or the list around it, stands under."""
    stack: list[tuple[str, object]] = [("", content)]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            for inner_key, inner_value in value.items():
                yield "", inner_key
                stack.append((inner_key, inner_value))
        elif isinstance(value, list):
            stack.extend((key, entry) for entry in value)
        else:
            yield key, value


def _check_target(target: str, place: Place) -> None:
    found = _OPERATOR.fullmatch(target)
    if not found:
        if not _FUNCTION.fullmatch(target):
            raise place.unsafe(f"the program calls {target[:100]!r}", why="torch would look it up and call it")
        return
    namespace, operator, overload = found.groups()
    if namespace == "higher_order":
        if operator not in _HIGHER_ORDER or overload:
            raise place.unsafe(f"the program calls {target!r}", why="it runs code that is not in the graph")
    elif namespace not in _OWN_NAMESPACES:
        raise place.malformed(
            f"it needs the custom operator {namespace}::{operator}",
            why="custom operators come in a library, which is never loaded with a model",
            fix="export the program with operators of torch only",
        )
    elif operator in _DENIED_OPERATORS or (operator.startswith("__") and not overload):
        raise place.unsafe(f"the program calls {target!r}", why="it reads or writes files")


def _check_tree(text: str, place: Place) -> None:
    """Check a serialised tree spec: plain containers, with names as keys."""
    pending = [load_json(text.encode("utf-8", "surrogatepass"), place)]
    while pending:
        spec = pending.pop()
        if isinstance(spec, list):
            pending += [entry for entry in spec if isinstance(entry, (dict, list))]
            continue
        kind, context = (spec.get("type"), spec.get("context")) if isinstance(spec, dict) else ("", None)
        if kind is not None and not (isinstance(kind, str) and kind in _TREES):
            raise place.malformed(f"inputs or outputs are of the type {kind!r}", why=_NEEDS_CODE, fix=_SAVE_AGAIN)
        keys = load_json(context.encode("utf-8", "surrogatepass"), place) if isinstance(context, str) else context
        for key in keys if isinstance(keys, list) else [keys]:
            if not isinstance(key, (int, type(None))) and not (isinstance(key, str) and _NAME.fullmatch(key)):
                raise place.unsafe(f"inputs or outputs have the key {str(key)[:100]!r}", why="torch would import it")
        pending.append(spec.get("children_spec") if isinstance(spec, dict) else [])


_CHECKS = {
    "expr_str": check_symbolic,
    "guards_code": check_guard,
    "target": _check_target,
    "as_operator": _check_target,
    "in_spec": _check_tree,
    "out_spec": _check_tree,
}
