"""The configuration of a model when one of its versions is promoted: its own, with what belongs to that version.

`merged` puts a version's settings in, `replaced` tells what they replaced, and `without` takes them out again when
another version is to serve.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from modelport.errors import RepositoryError
from modelport.repository import config as configs
from modelport.repository import disk
from modelport.repository.record import Kept
from modelport.spec import ModelSpec


def merged(
    present: configs.ModelConfig, wanted: configs.ModelConfig, asked: Collection[str], *, where: Path
) -> configs.ModelConfig:
    """The model's configuration with the labels, parameters and ensemble steps of a version.

    Args:
        present: The model's configuration, with its owner's settings.
        wanted: The configuration that the version was made with.
        asked: Which of `max_batch_size` and `instance_group` its publisher asked for; they replace the owner's.
        where: The model's `config.pbtxt`, for messages.

    Raises:
        RepositoryError: Backend, file name or tensors differ.
    """
    _check_same(present, wanted, where)
    final = copy(present)
    for have, new in zip(final.output, wanted.output, strict=True):
        have.label_filename = new.label_filename or have.label_filename
    for key in wanted.parameters:
        final.parameters[key].CopyFrom(wanted.parameters[key])
    if wanted.platform == configs.ENSEMBLE:
        final.ensemble_scheduling.CopyFrom(wanted.ensemble_scheduling)
    if "max_batch_size" in asked:
        final.max_batch_size = wanted.max_batch_size
    if "instance_group" in asked:
        for group in final.instance_group:
            group.count = wanted.instance_group[0].count
    return final


def with_labels(
    own: configs.ModelConfig, present: configs.ModelConfig, folder: Path
) -> tuple[configs.ModelConfig, dict[str, str]]:
    """A new version's configuration with the labels that the model has now, where the version brings none.

    So each version has the labels that belong to it, whatever later ones bring.

    Args:
        own: The configuration that the version was made with.
        present: The model's configuration; its outputs are the same ones.
        folder: The model's folder.

    Returns:
        The configuration, and the label files that it needs beside those it had.
    """
    final = copy(own)
    texts: dict[str, str] = {}
    for tensor, have in zip(final.output, present.output, strict=True):
        name = have.label_filename
        if not tensor.label_filename and name == Path(name).name and (folder / name).is_file():
            tensor.label_filename = name
            texts[name] = disk.decode((folder / name).read_bytes())
    return final, texts


def replaced(before: configs.ModelConfig, after: configs.ModelConfig) -> Kept:
    """What `merged` replaced in a model's configuration.

    Args:
        before: The configuration without the version's settings.
        after: The configuration with them; the outputs are the same ones.
    """
    counts = tuple(group.count for group in before.instance_group)
    return Kept(
        max_batch_size=before.max_batch_size if before.max_batch_size != after.max_batch_size else None,
        instance_counts=counts if counts != tuple(group.count for group in after.instance_group) else (),
        parameters={
            key: before.parameters[key].string_value if key in before.parameters else None
            for key in sorted(after.parameters)
            if key not in before.parameters or before.parameters[key] != after.parameters[key]
        },
        label_files={
            old.name: old.label_filename
            for old, new in zip(before.output, after.output, strict=True)
            if old.label_filename != new.label_filename
        },
    )


def without(present: configs.ModelConfig, kept: Kept, own: configs.ModelConfig | None) -> configs.ModelConfig:
    """The model's configuration without what its serving version brought.

    Args:
        present: The model's configuration.
        kept: What that version replaced.
        own: The configuration that version was made with; what its owner changed since then stays. None where that is
            not known.
    """
    final = copy(present)
    if kept.max_batch_size is not None and (own is None or own.max_batch_size == final.max_batch_size):
        final.max_batch_size = kept.max_batch_size
    counts = {group.count for group in final.instance_group}
    same_groups = len(kept.instance_counts) == len(final.instance_group)
    if same_groups and (own is None or counts == {group.count for group in own.instance_group}):
        for group, count in zip(final.instance_group, kept.instance_counts, strict=True):
            group.count = count
    for key, value in kept.parameters.items():
        if key not in final.parameters or (own is not None and own.parameters.get(key) != final.parameters[key]):
            continue
        if value is None:
            del final.parameters[key]
        else:
            final.parameters[key].string_value = value
    brought = {tensor.name: tensor.label_filename for tensor in (own.output if own is not None else ())}
    for tensor in final.output:
        if tensor.name in kept.label_files and brought.get(tensor.name, tensor.label_filename) == tensor.label_filename:
            tensor.label_filename = kept.label_files[tensor.name]
    return final


def copy(config: configs.ModelConfig) -> configs.ModelConfig:
    """Another message with the same content."""
    return type(config).FromString(config.SerializeToString())


def _check_same(present: configs.ModelConfig, wanted: configs.ModelConfig, path: Path) -> None:
    def runs(one: configs.ModelConfig) -> tuple[str, str]:
        return (one.backend or one.platform, one.default_model_filename)

    if runs(present) != runs(wanted):
        raise RepositoryError(
            f"the new version of {wanted.name!r} is of another format than the versions before it",
            why=f"they are {' '.join(runs(present))}; the new one is {' '.join(runs(wanted))}; a model has one backend",
            fix="export in the same format, or under another model name",
            path=str(path),
        )
    if _interface(configs.spec_of(present)) == _interface(configs.spec_of(wanted)):
        return
    raise RepositoryError(
        f"the new version of {wanted.name!r} has other tensors than the versions before it",
        why=f"they have {_words(configs.spec_of(present))}; the new one has {_words(configs.spec_of(wanted))}",
        fix="keep names, types and sizes, or export under another model name",
        path=str(path),
    )


def _interface(spec: ModelSpec) -> tuple[object, ...]:
    return (spec.inputs, spec.outputs, spec.batched)


def _words(spec: ModelSpec) -> str:
    tensors = ", ".join(map(str, [*spec.inputs, *spec.outputs]))
    return f"{tensors} ({'with' if spec.batched else 'without'} a batch axis)"
