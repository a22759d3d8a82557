"""The repository's root and the names in it: to Triton every folder there is a model, hidden ones too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modelport.errors import InvalidNameError
from modelport.repository.doctor.context import Context
from modelport.repository.doctor.finding import Finding, Place, Rule
from modelport.repository.doctor.model import is_model
from modelport.repository.layout import SAFE_PATH
from modelport.spec import check_model_name

REPOSITORY_PATH = Rule(
    id="repository-path",
    severity="error",
    title="The repository's full path has letters other than A-Z a-z 0-9 / . _ -",
    why="Triton hands the path to a shell without quotes when it starts a Python-based backend (CVE-2025-23316)",
    fix="move the repository to a folder whose path has no blanks and special letters",
)
ROOT_FOLDER = Rule(
    id="root-folder",
    severity="error",
    title="A folder in the repository's root holds no model, hidden folders included",
    why="every folder in the root is a model to Triton; started with its default options it does not load and the "
    "server ends with 'failed to load all models'",
    fix="keep nothing but models in the root",
    repair="move",
)
MODEL_NAME = Rule(
    id="model-name",
    severity="error",
    title="A model's name breaks the rule: 1 to 63 of A-Z a-z 0-9 _ . -, first a letter or digit, no '..'",
    why="Triton hands model names to a shell without quotes when it starts a Python-based backend (CVE-2025-23316)",
    fix="rename the folder, and the name in its config.pbtxt",
)
LINK_DANGLING = Rule(
    id="link-dangling",
    severity="error",
    title="A symbolic link in the repository's root or in a model's folder leads nowhere",
    why="Triton cannot list the folder then: in a model's folder that model cannot be loaded any more; in the root the "
    "model index fails, and in poll mode every model is unloaded",
    fix="remove the link, or restore what it points to",
    repair="move",
)
_STAYS = (".git", ".hg", ".svn", ".dvc", "lost+found")  # somebody works with it, or the system keeps it there
RULES = (REPOSITORY_PATH, ROOT_FOLDER, MODEL_NAME, LINK_DANGLING)


def check(context: Context) -> Iterator[Finding]:
    """The root, then the models' names and what in their folders stops a listing."""
    if context.whole:
        yield from _root(context)
    for model in context.models:
        try:
            check_model_name(model.name)
        except InvalidNameError as exc:
            why = "" if exc.why.startswith("a name is") else exc.why
            yield MODEL_NAME.found(exc.what, model.at_path(model.folder), why=why)
        for path in model.entries:
            if _dangling(path):
                yield LINK_DANGLING.found(_dangles(path), model.at_path(path))


def _root(context: Context) -> Iterator[Finding]:
    if not SAFE_PATH.fullmatch(str(context.repository)):
        yield REPOSITORY_PATH.found(f"the repository is {str(context.repository)!r}", Place(path=Path()))
    for path in sorted(context.repository.iterdir()):
        if _dangling(path):
            yield LINK_DANGLING.found(_dangles(path), context.at_path(path))
        elif path.is_dir() and not is_model(path):
            hidden = " hidden" if path.name.startswith(".") else ""
            what = f"the{hidden} folder {path.name!r} has neither a config.pbtxt nor a version"
            used = any(model.mentions(path.name) for model in (*context.models, *context.others.values()))
            yield ROOT_FOLDER.found(what, context.at_path(path), fixable=not used and path.name not in _STAYS)


def _dangles(path: Path) -> str:
    return f"{path.name!r} is a link to {str(path.readlink())!r}, where nothing is"


def _dangling(path: Path) -> bool:
    return path.is_symlink() and not path.exists()
