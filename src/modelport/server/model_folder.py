"""What in a model's folder must not reach Triton, and which models a server starts with.

Triton reads a folder's name as a version by its numeric beginning: `3.tmp` and `+3` count as 3, while names with a
leading zero are ignored. A number that does not fit into 64 bits ends the server. All else depends on the policy: one
that names its versions (`specific`, as modelport writes it) makes the odd folders harmless, because the files of
version 3 are read from the folder `3` and nowhere else. With `latest` or none, `4.tmp` blocks every load of the model;
with `all`, `-1` also takes the requests that name no version.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from modelport.errors import InvalidNameError, ModelNotFoundError, ModelportError, VersionNotFoundError
from modelport.spec import TRIAL_SUFFIX, check_model_name, parse_version

_log = logging.getLogger(__name__)
STUB = "triton_python_backend_stub"
_NUMBER = re.compile(r"\s*([+-]?)([0-9]+)")
_INT64 = 2**63
_COMMENT = re.compile(r"#.*")
_SPECIFIC = re.compile(r"\bversion_policy\s*:?\s*\{\s*specific\s*:?\s*\{([^}]*)\}")
_BACKEND = re.compile(r"""(?:^|[\s,;{}])backend\s*:\s*["']([^"']*)["']""")


def model_folders(repository: Path) -> list[str]:
    """The names of all folders in the repository: to Triton, each is a model."""
    return sorted(entry.name for entry in repository.iterdir() if entry.is_dir())


def folder_of(repository: Path, model: str) -> Path:
    """The folder of a model.

    Args:
        repository: The repository, or the folder of trial models.
        model: The model's name; in the folder of trial models it ends in `.trial`.

    Raises:
        InvalidNameError: The name breaks the rule.
        ModelNotFoundError: There is no such folder.
    """
    check_model_name(model.removesuffix(TRIAL_SUFFIX))
    folder = repository / model
    if folder.is_dir():
        return folder
    raise ModelNotFoundError(
        f"there is no model {model!r} in {repository}",
        why="the repository has no folder of that name",
        fix="choose one of: " + (", ".join(model_folders(repository)) or "(the repository is empty)"),
        path=str(folder),
        model=model,
    )


def check_model(repository: Path, model: str) -> None:
    """Check a model's folder before Triton reads it. Names that do no harm are left alone, right or wrong.

    Args:
        repository: The repository, or the folder of trial models.
        model: The model's name; in the folder of trial models it ends in `.trial`.

    Raises:
        InvalidNameError: The name breaks the rule, a folder in it would end the server or count as a version, or a
            file in it would be executed.
        ModelNotFoundError: There is no such folder.
    """
    folder = folder_of(repository, model)
    named = named_versions(folder) is not None
    for entry in folder.iterdir():
        number = _NUMBER.match(entry.name)
        if number and not entry.name.startswith("0") and entry.is_dir():
            _check_number(folder, entry.name, number[1], int(number[2]), named)
        for path in (entry, entry / STUB):
            if path.name == STUB and os.path.lexists(path):
                raise InvalidNameError(
                    f"the file {path.relative_to(repository)} may not be in a model's folder",
                    why="Triton would execute it instead of its own program",
                    fix="remove the file",
                    path=str(path),
                    name=STUB,
                )


def usable(repository: Path, models: Sequence[str] | None) -> tuple[list[str], dict[str, ModelportError]]:
    """Which models may be loaded when the server starts, and why the others may not.

    A folder that must not reach Triton takes its own model away, and no other one. So does a policy whose serving
    version has no folder; other versions without one are taken out of it.

    Args:
        repository: Full path of the repository.
        models: The wanted ones; None for all.

    Raises:
        ModelNotFoundError: A wanted one has no folder, or there is none at all.
        InvalidNameError, VersionNotFoundError: None of those that are wanted may be loaded.
    """
    wanted = model_folders(repository) if models is None else models
    if models is None and not wanted:
        raise ModelNotFoundError(
            f"the repository {repository} holds no model",
            why="it has no folders",
            fix="export a model first, or pass models=() to start without any",
            path=str(repository),
        )
    good: list[str] = []
    refused: dict[str, ModelportError] = {}
    for model in wanted:
        try:
            check_model(repository, model)
            try:
                check_versions(repository, model)
            except VersionNotFoundError:
                if not _shed(repository, model):
                    raise
            good.append(model)
        except (InvalidNameError, VersionNotFoundError) as error:
            refused[model] = error
    if refused and not good:
        raise next(iter(refused.values()))
    return good, refused


def check_versions(repository: Path, model: str) -> tuple[int, ...] | None:
    """The versions that the model's `config.pbtxt` names, each with a folder; None where its policy names none.

    Triton does not mind a version that is named and missing: it answers 200 and serves the others.

    Raises:
        VersionNotFoundError: A named version has no folder.
    """
    named = named_versions(repository / model)
    missing = [version for version in named or () if not (repository / model / str(version)).is_dir()]
    if missing:
        raise VersionNotFoundError(
            f"version {', '.join(map(str, missing))} of model {model!r} does not exist",
            why=f"{model}/config.pbtxt names it in version_policy, and there is no such folder",
            fix="take it out of the policy ('modelport doctor --fix' does), or bring the folder back",
            path=str(repository / model / "config.pbtxt"),
            model=model,
            version=missing[0],
        )
    return named


def named_versions(folder: Path) -> tuple[int, ...] | None:
    """The versions that the policy in a model's `config.pbtxt` names; None where it names none.

    Read without protobuf, which takes as long to import as the server takes to start.
    """
    found = _SPECIFIC.search(_config_text(folder))
    return None if found is None else tuple(sorted({int(word) for word in re.findall(r"[0-9]+", found[1])}))


def backend(folder: Path) -> str:
    """The backend that a model's `config.pbtxt` names, read without protobuf as well; empty where it names none."""
    found = _BACKEND.search(_config_text(folder))
    return found[1] if found else ""


def _config_text(folder: Path) -> str:
    """A model's `config.pbtxt` without its comments; empty where it cannot be read."""
    try:
        text = (folder / "config.pbtxt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return _COMMENT.sub("", text)


def _shed(repository: Path, model: str) -> bool:
    """Take versions without a folder out of a model's policy; whether its serving version can be loaded now."""
    from modelport.repository import shed  # it imports protobuf

    try:
        return bool(shed.shed(repository, model, {}))
    except ModelportError as error:
        _log.warning("%s: %s", error.what, error.why)
        return False


def _check_number(folder: Path, name: str, sign: str, number: int, named: bool) -> None:
    fits = -_INT64 <= (-number if sign == "-" else number) < _INT64
    if fits and named:
        return
    if fits:
        parse_version(name)
        return
    raise InvalidNameError(
        f"the folder {folder.name}/{name[:40]!r} may not be in a model's folder",
        why="its name begins with a version number of more than 64 bits, which ends the server",
        fix="remove or rename the folder",
        path=str(folder / name),
        name=name,
    )
