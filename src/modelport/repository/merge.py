"""The configuration of a model when one of its versions is promoted: its own, with what belongs to that version."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from modelport.errors import RepositoryError
from modelport.repository import config as configs
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
    final = type(present).FromString(present.SerializeToString())
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
