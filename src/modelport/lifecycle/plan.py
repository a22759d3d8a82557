"""What a promotion or a rollback is to lead to, found from the repository's files before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from modelport.errors import ManifestError, VersionNotFoundError
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository import switch
from modelport.repository.layout import config_path, version_folder, version_numbers
from modelport.repository.manifest import MANIFEST_FILE
from modelport.repository.merge import merged
from modelport.repository.record import Record


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
    """

    target: int
    loaded: tuple[int, ...]
    config: configs.ModelConfig
    record: Record
    labels: dict[str, str]
    moved: tuple[str, ...]


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
    """The highest version that never served.

    Raises:
        VersionNotFoundError: There is none.
    """
    found = [
        v
        for v in now.numbers
        if v not in now.loaded and not now.record.served(v) and _folder(now, v, MANIFEST_FILE).is_file()
    ]
    if found:
        return found[-1]
    raise VersionNotFoundError(
        f"model {now.model!r} has no candidate to promote",
        why=f"version {now.serving} serves, and each of its other versions has served before or has no manifest"
        if now.serving
        else "no version of it was published",
        fix="publish one with 'modelport export', or name the version to promote",
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
        why=f"version {now.serving} is the first that served",
        fix="name the version to go back to; 'modelport list' shows them",
        model=now.model,
    )


def plan(now: Present, target: int, *, back: bool, unload_old: bool, own: configs.ModelConfig | None) -> Plan:
    """What to do to let `target` serve.

    Args:
        now: How the model stands.
        target: The version that is to serve.
        back: Whether this is a rollback.
        unload_old: Take the version before out at once; else it stays loaded, so that going back takes no loading.
        own: The configuration that the target was made with; None where it has none.

    Raises:
        RepositoryError: The target has other tensors or another format than the model.
    """
    asked = _asked(now, target)
    config = merged(now.config, own, asked, where=config_path(now.repository, now.model)) if own else now.config
    config = type(config).FromString(config.SerializeToString())
    aliased = {v for v in now.record.aliases.values() if v in now.loaded}
    warm = {now.serving} if now.serving and not unload_old and not back else set()
    loaded = tuple(sorted({target, *(v for v in warm | aliased if v < target)}))
    configs.set_versions(config, loaded)
    record, moved = _record(now, target, loaded, back=back)
    return Plan(
        target=target,
        loaded=loaded,
        config=config,
        record=record,
        labels=_labels(now, target, config),
        moved=moved,
    )


def own_config(now: Present, version: int) -> configs.ModelConfig | None:
    """The configuration that a version was made with; None where its folder has none.

    Raises:
        VersionNotFoundError: There is no such version.
        ManifestError: It cannot be read.
    """
    path = version_folder(now.repository, now.model, version) / configs.CONFIG_FILE
    return configs.read(path) if path.is_file() else None


def _record(now: Present, target: int, loaded: tuple[int, ...], *, back: bool) -> tuple[Record, tuple[str, ...]]:
    moved = tuple(sorted(name for name, version in now.record.aliases.items() if version not in loaded))
    aliases = {name: target if name in moved else version for name, version in now.record.aliases.items()}
    changed = now.record.switched(now.serving, target, back=back)
    return replace(changed, aliases=aliases), moved


def _asked(now: Present, version: int) -> tuple[str, ...]:
    try:
        return manifests.read(_folder(now, version)).asked
    except ManifestError:
        return ()


def _labels(now: Present, target: int, config: configs.ModelConfig) -> dict[str, str]:
    """The label files that the target brings and that are not the model's already."""
    found: dict[str, str] = {}
    for tensor in config.output:
        path = _folder(now, target, tensor.label_filename)
        if not tensor.label_filename or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        old = now.repository / now.model / tensor.label_filename
        if not old.is_file() or old.read_text(encoding="utf-8") != text:
            found[tensor.label_filename] = text
    return found


def _folder(now: Present, version: int, *names: str) -> Path:
    return now.repository.joinpath(now.model, str(version), *names)
