"""The version policy in a `config.pbtxt` that has the form in which modelport prints it, found without protobuf.

Loading protobuf and parsing takes longer than everything else that a list of a thousand models needs. This is not a
second parser: a text either is, character for character, of the form below, which the parser is known to accept and in
which the policy stands in one place; or it is left to the parser. A test holds the two together.
"""

from __future__ import annotations

import re

# What a form is made of: `text_format` prints two blanks for each level, fields in the order of the .proto file.
_TEXT = r'"[ !#-\[\]-~]*"'  # printable ASCII that needs no escapes
_COUNT = r"(?:0|[1-9]\d{0,8})"  # below 2^31
_LONG = r"(?:-1|0|[1-9]\d{0,17})"  # below 2^63
_TYPE = r"TYPE_(?:BOOL|U?INT(?:8|16|32|64)|FP(?:16|32|64)|STRING)"


def _field(level: int, name: str, value: str, times: str = "?") -> str:
    return f"(?:{'  ' * level}{name}: {value}\n){times}"


def _block(level: int, name: str, *inside: str, times: str = "?") -> str:
    indent = "  " * level
    return f"(?:{indent}{name} {{\n{''.join(inside)}{indent}}}\n){times}"


def _tensor(name: str, last: str) -> str:
    reshape = _block(1, "reshape", _field(2, "shape", _LONG, "*"))
    dims = _field(1, "dims", _LONG, "*")
    return _block(0, name, _field(1, "name", _TEXT), _field(1, "data_type", _TYPE), dims, reshape, last, times="*")


def _map(level: int, name: str, value: str) -> str:
    return _block(level, name, _field(level + 1, "key", _TEXT), value, times="*")


_STEP = _block(
    1, "step",
    _field(2, "model_name", _TEXT),
    _field(2, "model_version", _LONG),
    _map(2, "input_map", _field(3, "value", _TEXT)),
    _map(2, "output_map", _field(3, "value", _TEXT)),
    times="*",
)  # fmt: skip
_BATCHING = _block(
    0, "dynamic_batching",
    _field(1, "preferred_batch_size", _COUNT, "*"),
    _field(1, "max_queue_delay_microseconds", _COUNT),
    times="",
)  # fmt: skip
_FORM = re.compile(
    "".join((
        r"(?:#[^\n]*\n)*",
        _field(0, "name", _TEXT),
        _field(0, "platform", _TEXT),
        _field(0, "backend", _TEXT),
        _block(0, "version_policy", _block(1, "specific", f"(?P<named>{_field(2, 'versions', _LONG, '*')})", times=""),
               times=""),
        _field(0, "max_batch_size", _COUNT),
        _tensor("input", ""),
        _tensor("output", _field(1, "label_filename", _TEXT)),
        f"(?:{_BATCHING}|{_block(0, 'ensemble_scheduling', _STEP, times='')})?",
        _block(0, "instance_group", _field(1, "kind", "KIND_(?:AUTO|CPU|GPU|MODEL)"), _field(1, "count", _COUNT),
               times="*"),
        _field(0, "default_model_filename", _TEXT),
        _map(0, "parameters", _block(1, "value", _field(2, "string_value", _TEXT))),
    )),
    re.ASCII,
)  # fmt: skip
_NUMBER = re.compile(r"-?[0-9]+")


def named_versions(text: str) -> tuple[int, ...] | None:
    """The versions that the policy names, in the order of the text.

    Args:
        text: The content of a `config.pbtxt`.

    Returns:
        None for a text of another form: it may be right or wrong, the parser knows.
    """
    found = _FORM.fullmatch(text)
    return tuple(map(int, _NUMBER.findall(found["named"]))) if found else None
