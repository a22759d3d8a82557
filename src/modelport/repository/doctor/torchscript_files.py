"""TorchScript files against the configuration: which tensor becomes which argument.

The arguments of `forward` are read from the text of the code in the archive; nothing is compiled or unpickled.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelport.convert.hostile import archives, pickles
from modelport.convert.hostile.refusals import Place as ArchivePlace
from modelport.errors import SourceError
from modelport.repository.doctor.context import Context
from modelport.repository.doctor.files import weight
from modelport.repository.doctor.finding import Finding, Rule
from modelport.repository.doctor.model import Model, type_name

TORCHSCRIPT_INPUTS = Rule(
    id="torchscript-inputs",
    severity="error",
    title="The inputs of a pytorch model fit neither the arguments of `forward` nor the form NAME__0, NAME__1",
    why="the backend finds the argument for an input by its name, or by the number behind two underscores; the model "
    "does not load, or the tensors go to the wrong arguments",
    fix="name the inputs as forward's arguments",
)
TORCHSCRIPT_TYPES = Rule(
    id="torchscript-types",
    severity="error",
    title="An input or output of a pytorch model is of a type that the backend does not serve",
    why="the model does not load: it serves BOOL, UINT8, INT8 to INT64, FP16 to FP64, and strings in one dimension",
    fix="use another type, or convert the model to ONNX",
)
RULES = (TORCHSCRIPT_INPUTS, TORCHSCRIPT_TYPES)

_TYPES = frozenset(["TYPE_BOOL", "TYPE_UINT8", "TYPE_STRING"])
_NUMBERS = re.compile(r"TYPE_(INT(8|16|32|64)|FP(16|32|64))")
_INDEX = re.compile(r".+__([0-9]+)")
_ARGUMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*): ")
_MAX_CODE_BYTES = 64 << 20


def check(context: Context) -> Iterator[Finding]:
    """The configuration of every pytorch model, and the code of its versions."""
    for model in context.models:
        if model.config is not None and model.kind == "torchscript" and model.config.input:
            yield from _types(model)
            yield from _inputs(model)


def _types(model: Model) -> Iterator[Finding]:
    assert model.config is not None
    for word, group in (("input", model.config.input), ("output", model.config.output)):
        for index, tensor in enumerate(group):
            name = type_name(tensor)
            if tensor.data_type and name not in _TYPES and not _NUMBERS.fullmatch(name):
                yield TORCHSCRIPT_TYPES.found(f"{word} {tensor.name!r} is {name}", model.at(word, index=index))
            elif name == "TYPE_STRING" and len(tensor.dims) + model.batched > 1:
                what = f"{word} {tensor.name!r} holds strings in {len(tensor.dims) + model.batched} dimensions"
                yield TORCHSCRIPT_TYPES.found(what, model.at(word, index=index))


def _inputs(model: Model) -> Iterator[Finding]:
    assert model.config is not None
    names = [str(tensor.name) for tensor in model.config.input]
    indices = [match and int(match[1]) for match in map(_INDEX.fullmatch, names)]
    numbered = sorted(index for index in indices if index is not None)
    for version in model.versions:
        path = model.artefact_path(version)
        given = None if path is None or version in model.damaged or not path.exists() else arguments(path)
        if given is not None and sorted(names) == sorted(given):
            continue
        if given is not None and len(given) != len(names):
            if len(given) != 1:  # one argument may be a dictionary of all
                what = f"version {version}: {len(names)} inputs, forward takes {len(given)}: {', '.join(given)}"
                yield TORCHSCRIPT_INPUTS.found(what, model.at("input"), severity=weight(model, version))
        elif (numbered or given is not None) and numbered != list(range(len(names))):
            said = f"forward takes {', '.join(given)}" if given else "the numbers do not run from 0"
            what = f"version {version}: the inputs are {', '.join(names)}; {said}"
            yield TORCHSCRIPT_INPUTS.found(what, model.at("input"), severity=weight(model, version))


def arguments(path: Path) -> list[str] | None:
    """The names of the arguments of `forward`, without `self`; None where they cannot be told."""
    place = ArchivePlace(path=path)
    try:
        with path.open("rb") as file:
            members = archives.members_of(file, path.stat().st_size, place)
            folder = next(iter(members)).split("/")[0]
            pickle = archives.read(file, members[f"{folder}/data.pkl"], place, limit=pickles.MAX_PICKLE_BYTES)
            root = next(wanted for _, _, wanted in pickles.opcodes(io.BytesIO(pickle), place) if wanted)
            module, _, name = root.rpartition(".")
            code = members[f"{folder}/code/{module.replace('.', '/')}.py"]
            text = archives.read(file, code, place, limit=_MAX_CODE_BYTES).decode("utf-8")
    except (SourceError, OSError, KeyError, StopIteration, UnicodeDecodeError):
        return None
    return _signature(text, name)


def _signature(text: str, name: str) -> list[str] | None:
    """What `def forward(self: ..., x: Tensor, ...)` of a class takes; commas inside brackets separate nothing."""
    body = re.search(rf"^class {re.escape(name)}\(.*?(?=^class |\Z)", text, re.MULTILINE | re.DOTALL)
    start = body[0].find("def forward(") if body else -1
    if body is None or start < 0:
        return None
    depth, parts, part = 0, [], ""
    for letter in body[0][start + len("def forward(") :]:
        depth += (letter in "([") - (letter in ")]")
        if depth < 0:
            break
        if letter == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += letter
    return _names([*parts, part])


def _names(parts: Sequence[str]) -> list[str] | None:
    found = [_ARGUMENT.match(part.strip()) for part in parts if part.strip()]
    names = [match[1] for match in found if match]
    return names[1:] if len(names) == len(found) and names[:1] == ["self"] else None
