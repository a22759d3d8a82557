"""What a promotion or a rollback is to lead to, found from the repository's files before anything is touched."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from modelport.errors import ManifestError, RepositoryError, VersionNotFoundError
from modelport.repository import config as configs
from modelport.repository import disk, drops, merge, placed, registry, switch
from modelport.repository import manifest as manifests
from modelport.repository.layout import config_path, version_folder, version_numbers
from modelport.repository.record import Kept, Record


@dataclass(frozen=True, kw_only=True)
class Present:
    """How a model stands now.

    Attributes:
        repository: The model repository.
        model: Model name.
        config: Its configuration.
        record: Its record.
        numbers: Its versions, ascending.
    """

    repository: Path
    model: str
    config: configs.ModelConfig
    record: Record
    numbers: tuple[int, ...]

    @property
    def loaded(self) -> tuple[int, ...]:
        """The versions that the configuration has loaded, ascending."""
        return configs.selected(self.config, self.numbers)

    @property
    def serving(self) -> int | None:
        """The version that callers get."""
        return max(self.loaded, default=None)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where a change leads.

    Attributes:
        target: The version that is to serve.
        loaded: The versions that are to be loaded, ascending; the target is the highest.
        config: The configuration with these versions, and with what belongs to the target.
        record: The record with the way back.
        labels: Label files of the model that change, by name.
        moved: Aliases that pointed at a version that is taken out; they point at the target now.
        unfit: Versions that would stay loaded, and cannot: with the target's labels, parameters or steps they would
            give other answers than they were published with.
        beside: The configuration as it is now with the target loaded as well. It goes first where calls may be led to
            the target by its number: it has to answer before anything else changes. None where that is not needed, or
            cannot be.
    """

    target: int
    loaded: tuple[int, ...]
    config: configs.ModelConfig
    record: Record
    labels: dict[str, str]
    moved: tuple[str, ...]
    unfit: tuple[int, ...] = ()
    beside: configs.ModelConfig | None = None


def present(repository: Path, model: str) -> Present:
    """How a model stands now.

    Raises:
        ModelNotFoundError: There is no such model.
        ManifestError: Its configuration cannot be read.
    """
    numbers = tuple(version_numbers(repository, model))
    config, record = switch.read(repository, model)
    return Present(repository=repository, model=model, config=config, record=record, numbers=numbers)


def newest_candidate(now: Present) -> int:
    """The highest version that never served, newer than all that did; of what was copied in, only what was found good.

    Raises:
        VersionNotFoundError: There is none.
    """
    served = max([*now.loaded, *now.record.way_back, *now.record.retired], default=0)
    states = {row.version: row.state for row in registry.model_rows(now.repository, now.model)}
    newer = [v for v in now.numbers if v > served]
    found = [v for v in newer if states[v] == registry.CANDIDATE]
    if found:
        return found[-1]
    others = "".join(f"; version {v} is {states[v]}" for v in newer)
    raise VersionNotFoundError(
        f"model {now.model!r} has no candidate to promote",
        why=f"version {now.serving} serves, and no version that is newer than those that served was published{others}"
        if now.serving
        else f"no version of it was published{others}",
        fix="publish one with 'modelport export', or name the version to promote"
        if not others
        else f"'modelport list {now.model}' says what is to do",
        model=now.model,
    )


def way_back(now: Present) -> int:
    """The version that served before the serving one.

    Raises:
        VersionNotFoundError: There is none.
    """
    found = [v for v in now.record.way_back if v in now.numbers and v != now.serving]
    if found:
        return found[-1]
    raise VersionNotFoundError(
        f"model {now.model!r} has no version to go back to",
        why=f"none that served before version {now.serving} is known and still there"
        if now.serving
        else "none of its versions serves",
        fix="name the version to go back to; 'modelport list' shows them",
        model=now.model,
    )


def plan(now: Present, target: int, *, back: bool, unload_old: bool, ready: Collection[int]) -> Plan:
    """What to do to let `target` serve.

    The version before stays loaded, so that going back takes no loading, and so do those that have an alias or that
    the model's route names; as far as they are lower than the target, answer now, and can be served with the target's
    settings. Aliases and routes that named the others lead to the target then.

    Args:
        now: How the model stands.
        target: The version that is to serve.
        back: Whether this is a rollback: the version before is taken out.
        unload_old: Take the version before out as well when promoting.
        ready: The versions that answer now.

    Raises:
        RepositoryError: The target has other tensors or another format than the model.
        ManifestError: Its configuration or its manifest cannot be read.
    """
    config, kept = settings(now, target)
    labels = _labels(now, target, config)
    wanted = set() if now.serving is None or back or unload_old else {now.serving}
    if target == now.serving and not unload_old:
        wanted |= {*now.loaded}
    named = {*now.record.aliases.values(), *now.record.route.numbers}
    wanted |= named & {*now.loaded}
    wanted = {v for v in wanted if v < target and v in ready}
    unfit = {v for v in wanted if not _fits(now, v, config, labels)}
    loaded = tuple(sorted({target, *wanted} - unfit))
    configs.set_versions(config, loaded)
    moved = tuple(sorted(name for name, version in now.record.aliases.items() if version not in loaded))
    aliases = {name: target if name in moved else version for name, version in now.record.aliases.items()}
    route = now.record.route.led([str(v) for v in now.record.route.numbers if v not in loaded], target)
    record = now.record.switched(now.serving, target, back=back)
    return Plan(
        target=target,
        loaded=loaded,
        config=config,
        record=replace(record, aliases=aliases, kept=kept, route=route),
        labels=labels,
        moved=moved,
        unfit=tuple(sorted(unfit)),
        beside=_beside(now, target, ready),
    )


def _beside(now: Present, target: int, ready: Collection[int]) -> configs.ModelConfig | None:
    """A lower version takes no calls that name none; all that are loaded have to answer, for all load or none."""
    cold = target not in ready and now.serving is not None and target < now.serving
    if not cold or not {*now.loaded} <= {*ready} or not _fits(now, target, now.config, {}):
        return None
    config = merge.copy(now.config)
    configs.set_versions(config, [*now.loaded, target])
    return config


def require_checked(now: Present, version: int) -> None:
    """Refuse a version folder that was copied in and not found good.

    Raises:
        ManifestError: Nobody has looked at it yet, or it was refused.
    """
    if placed.ours(now.repository, now.model, version):
        return
    refused = drops.refusal(now.repository, now.model, version)
    if refused is None and registry.row(now.repository, now.model, version).state != registry.UNCHECKED:
        return
    adopt = f"'modelport adopt {now.model}/{version}'"
    raise ManifestError(
        f"version {version} of {now.model!r} {'was refused' if refused else 'was copied in and is not checked yet'}",
        why=refused or "nothing is served before somebody has looked at what it is",
        fix=f"mend it, then {adopt}" if refused else f"{adopt} checks it; 'modelport serve' does so by itself",
        path=str(_folder(now, version)),
    )


def settings(now: Present, version: int) -> tuple[configs.ModelConfig, Kept]:
    """The model's configuration with `version` serving, and what of its owner's settings the version replaces.

    Raises:
        RepositoryError: The version has other tensors or another format than the model.
        ManifestError: Its configuration or its manifest cannot be read.
    """
    if version == now.serving:
        return merge.copy(now.config), now.record.kept
    base = merge.without(now.config, now.record.kept, _serving_own(now))
    own = own_config(now, version)
    if own is None:
        return base, Kept()
    asked = manifests.read(_folder(now, version)).asked
    final = merge.merged(base, own, asked, where=config_path(now.repository, now.model))
    return final, merge.replaced(base, final)


def own_config(now: Present, version: int) -> configs.ModelConfig | None:
    """The configuration that a version was made with; None where its folder has none.

    Raises:
        VersionNotFoundError: There is no such version.
        ManifestError: It cannot be read.
    """
    path = version_folder(now.repository, now.model, version) / configs.CONFIG_FILE
    return configs.read(path) if path.is_file() else None


def _serving_own(now: Present) -> configs.ModelConfig | None:
    try:
        return None if now.serving is None else own_config(now, now.serving)
    except ManifestError:  # its files were damaged: one more reason to let another version serve
        return None


def _fits(now: Present, version: int, config: configs.ModelConfig, labels: dict[str, str]) -> bool:
    """Whether a version gives the answers it was published with under the target's configuration and labels."""
    try:
        own, _ = settings(now, version)
    except RepositoryError:  # damaged; it could not be loaded again
        return False
    texts = {} if version == now.serving else _labels(now, version, own)
    return bool(_answers(own) == _answers(config)) and _texts(now, own, texts) == _texts(now, config, labels)


def _answers(config: configs.ModelConfig) -> configs.ModelConfig:
    """What of a configuration has to do with a version's answers."""
    own = merge.copy(config)
    for name in ("version_policy", "instance_group", "max_batch_size"):
        own.ClearField(name)
    for tensor in own.output:
        tensor.ClearField("label_filename")
    return own


def _texts(now: Present, config: configs.ModelConfig, labels: dict[str, str]) -> dict[str, str | None]:
    """Output to its labels, where `labels` are the files that change."""
    names = {tensor.name: tensor.label_filename for tensor in config.output if tensor.label_filename}
    return {
        tensor: labels[file] if file in labels else _text(now.repository / now.model / file)
        for tensor, file in names.items()
    }


def _labels(now: Present, version: int, config: configs.ModelConfig) -> dict[str, str]:
    """The label files that a version brings and that are not the model's already."""
    found: dict[str, str] = {}
    for name in {tensor.label_filename for tensor in config.output if tensor.label_filename}:
        text = _text(_folder(now, version, name)) if Path(name).name == name else None
        if text is not None and text != _text(now.repository / now.model / name):
            found[name] = text
    return found


def _text(path: Path) -> str | None:
    return disk.decode(path.read_bytes()) if path.is_file() else None


def _folder(now: Present, version: int, *names: str) -> Path:
    return now.repository.joinpath(now.model, str(version), *names)
