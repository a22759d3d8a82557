"""Repairs of a `config.pbtxt`: small changes of its text, so that comments and layout stay.

Each edit takes the model as it is on disk and gives the new text. What comes out is read by protobuf again, and used
only when nothing but the named fields changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from modelport.errors import ManifestError
from modelport.repository import config as configs
from modelport.repository.doctor import text_fields
from modelport.repository.doctor.backends import GUESSES
from modelport.repository.doctor.model import Model
from modelport.repository.doctor.tensors import is_scalar
from modelport.repository.doctor.text_fields import Field

_INSTANCES = "instance_group {\n  count: 1\n  kind: KIND_AUTO\n}\n"


def apply(model: Model, rule: str) -> str | None:
    """The text of the model's configuration after a repair; None where that cannot be done safely.

    Args:
        model: The model, read anew.
        rule: Which finding is repaired.
    """
    edit, fields = EDITS[rule]
    if model.config is None or (not model.fields and model.config.ByteSize()):  # a text that cannot be followed
        return None
    text = edit(model)
    try:
        after = configs.parse(text, where=model.folder / configs.CONFIG_FILE)
    except ManifestError:
        return None
    before = type(after).FromString(model.config.SerializeToString())
    changed = type(after).FromString(after.SerializeToString())
    for name in fields:
        before.ClearField(name)
        changed.ClearField(name)
    return text if before == changed else None


def _name(model: Model) -> str:
    return _replaced(model, text_fields.find(model.fields, "name"), f'name: "{model.name}"')


def _backend(model: Model) -> str:
    assert model.config is not None
    backend = GUESSES.get(model.config.default_model_filename, "") or model.guessed
    platform = ""
    if backend == "tensorflow":  # its platform says which of its two formats it is
        folder = model.folder / str(model.versions[0])
        kind = "savedmodel" if (folder / "model.savedmodel").exists() else "graphdef"
        platform = f'platform: "tensorflow_{kind}"\n'
    return _added(model, f'backend: "{backend}"\n{platform}')


def _runtime(model: Model) -> str:
    return _replaced(model, text_fields.find(model.fields, "runtime"), "")


def _policy(model: Model) -> str:
    numbers = ", ".join(map(str, model.selected))
    policy = f"version_policy {{ specific {{ versions: [ {numbers} ] }} }}"
    written = text_fields.find(model.fields, "version_policy")
    return _replaced(model, written, policy) if written else _added(model, f"{policy}\n")


def _instances(model: Model) -> str:
    return _added(model, _INSTANCES)


def _preferred(model: Model) -> str:
    assert model.config is not None
    most = model.config.max_batch_size
    kept = [size for size in model.config.dynamic_batching.preferred_batch_size if 1 <= size <= most]
    written = text_fields.find(model.fields, "dynamic_batching", "preferred_batch_size")
    return _replaced(model, written, f"preferred_batch_size: [ {', '.join(map(str, kept))} ]" if kept else "")


def _scalars(model: Model) -> str:
    """`dims: [ 1 ]`, with an empty reshape where there are batches and without one where there are none."""
    assert model.config is not None
    text = model.text or ""
    places: list[tuple[int, int, str]] = []
    for word in ("input", "output"):
        written = text_fields.find(model.fields, word)
        for tensor, field in zip(getattr(model.config, word), written, strict=True):
            reshape = text_fields.find(field.fields, "reshape")
            if not tensor.dims and is_scalar(model, tensor):
                more = " reshape { }" if model.batched and not reshape else ""
                places.append((field.inner, field.inner, f" dims: 1{more}"))
            if reshape and not tensor.reshape.shape and not model.batched:
                places.append((reshape[0].start, reshape[0].end, ""))
    for start, end, new in sorted(places, reverse=True):
        text = text[:start] + new + text[end:]
    return text


EDITS: dict[str, tuple[Callable[[Model], str], tuple[str, ...]]] = {
    "config-name": (_name, ("name",)),
    "backend-missing": (_backend, ("backend", "platform")),
    "runtime-set": (_runtime, ("runtime",)),
    "policy-missing": (_policy, ("version_policy",)),
    "policy-floating": (_policy, ("version_policy",)),
    "policy-absent-version": (_policy, ("version_policy",)),
    "instances-missing": (_instances, ("instance_group",)),
    "batch-preferred": (_preferred, ("dynamic_batching",)),
    "scalar-reshape": (_scalars, ("input", "output")),
}
"""Rule to its edit, and to the fields of the configuration that the edit may change."""


def _added(model: Model, lines: str) -> str:
    text = model.text or ""
    return text + ("" if not text or text.endswith("\n") else "\n") + lines


def _replaced(model: Model, fields: Iterable[Field], new: str) -> str:
    """The first of the fields replaced, the others removed; a line that is empty afterwards goes too."""
    text = model.text or ""
    places = sorted({(field.start, field.end) for field in fields}, reverse=True)
    for number, (start, end) in enumerate(places):
        word = new if number == len(places) - 1 else ""
        if not word:
            line = text.rfind("\n", 0, start) + 1
            stop = text.find("\n", end)
            if not text[line:start].strip() and stop >= 0 and not text[end:stop].strip(" ;,\t"):
                start, end = line, stop + 1
        text = text[:start] + word + text[end:]
    return text
