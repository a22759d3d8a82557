"""The files of a model: what is missing, what Triton would run, what does not belong, and links."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from modelport.repository import config as configs
from modelport.repository.doctor.backends import READS_ONE_FILE, USUAL_FILES
from modelport.repository.doctor.context import Context
from modelport.repository.doctor.finding import Finding, Rule, Severity
from modelport.repository.doctor.model import MAX_ONNX_BYTES, Model, outside, proper

STUB = "triton_python_backend_stub"

ARTEFACT_MISSING = Rule(
    id="artefact-missing",
    severity="error",
    title="A version folder lacks the file that the backend loads",
    why="the version does not load, and with it none of the model's versions changes: all are loaded, or none",
    fix="restore the file, or correct default_model_filename",
)
FILE_OUTSIDE = Rule(
    id="file-outside",
    severity="error",
    title="A file name in config.pbtxt leads out of the model's folder",
    why="the server would read any file of its machine",
    fix="name a file in the folder",
)
ARTEFACT_FORMAT = Rule(
    id="artefact-format",
    severity="error",
    title="The file that the backend loads is of another format, cut off, damaged, or a pickle",
    why="the version does not load",
    fix="export the model again",
)
FILE_TOO_LARGE = Rule(
    id="file-too-large",
    severity="error",
    title="An ONNX file is larger than 2 GB",
    why="it is one protobuf message, which cannot be larger; ONNX Runtime refuses it",
    fix="save the weights as external data in a file beside it",
)
LABELS_MISSING = Rule(
    id="labels-missing",
    severity="error",
    title="A label_filename names a file that is not in the model's folder",
    why="the model does not load: 'failed to open text file for read'",
    fix="restore the file, or remove label_filename",
)
STUB_FILE = Rule(
    id="stub-file",
    severity="error",
    title=f"A file named {STUB} is in a model's folder (a warning for the python backend)",
    why="Triton runs it in the place of its own program when the model loads",
    fix="remove it unless you built it yourself for another Python",
)
BACKEND_LIBRARY = Rule(
    id="backend-library",
    severity="warning",
    title="A file libtriton_*.so is in a model's folder (a note for a backend of the model's own)",
    why="Triton loads it into the server as the model's backend: it can do whatever the server can",
    fix="remove it unless it is a backend of your own",
)
LINK = Rule(
    id="link",
    severity="warning",
    title="A symbolic link in a model's folder",
    why="Triton goes by modification times: a link that is turned to an older folder or file answers a load with 200 "
    "and keeps serving the old weights; and what it points to is copied, backed up and checked by nobody",
    fix="copy what it points to",
)
HARD_LINK = Rule(
    id="hard-link",
    severity="warning",
    title="A file of a version has a second name elsewhere (hard link)",
    why="making or removing the other name changes the file's time and loads the version anew; writing to it changes a "
    "version that is served",
    fix="copy the file under a new name and move the copy over it",
)
STRAY_FILE = Rule(
    id="stray-file",
    severity="warning",
    title="A file in a model's folder that neither the backend nor the configuration uses",
    why="a change of it loads versions anew at the next load: in a version folder that one, beside config.pbtxt all",
    fix="keep it elsewhere",
    repair="move",
)
RULES = (
    ARTEFACT_MISSING,
    FILE_OUTSIDE,
    ARTEFACT_FORMAT,
    FILE_TOO_LARGE,
    LABELS_MISSING,
    STUB_FILE,
    BACKEND_LIBRARY,
    LINK,
    HARD_LINK,
    STRAY_FILE,
)
# Of git and DVC, in whose working trees many repositories are; also what keeps an empty version folder in git.
_TOOLS = (".git*", ".keep", "*.dvc")
_JUNK = (".DS_Store", "Thumbs.db", "*.swp", "*.tmp", "*.part", "*~", ".nfs*", ".~lock*")


def check(context: Context) -> Iterator[Finding]:
    """Every model's files."""
    for model in context.models:
        for version in model.versions:
            yield from _artefact(model, version)
        yield from _labels(model)
        if outside(model.artefact):
            what = f"default_model_filename is {model.artefact!r}"
            yield FILE_OUTSIDE.found(what, model.at("default_model_filename"))
        if model.folder.is_symlink():
            what = f"the folder is a link to {str(model.folder.readlink())!r}"
            yield LINK.found(what, model.at_path(model.folder))
        for path in _tree(model):
            yield from _file(model, path)


def weight(model: Model, version: int) -> Severity:
    """An error for a version that Triton loads; a warning for one that it would load after a promotion."""
    return "error" if version in model.selected else "warning"


def _artefact(model: Model, version: int) -> Iterator[Finding]:
    path = model.artefact_path(version)
    if path is None:
        return
    severity = weight(model, version)
    if not path.exists():
        others = model.config is not None and bool(model.config.cc_model_filenames)  # one for each kind of GPU
        if not others:
            yield ARTEFACT_MISSING.found(f"{path.name!r} is not there", model.at_path(path), severity=severity)
    elif version in model.damaged:
        problem = model.damaged[version]
        why = problem.why or ARTEFACT_FORMAT.why
        yield ARTEFACT_FORMAT.found(problem.what, model.at_path(path), severity=severity, why=why, fix=problem.fix)
    elif model.kind == "onnx" and path.stat().st_size > MAX_ONNX_BYTES:
        yield FILE_TOO_LARGE.found(f"{path.stat().st_size} bytes", model.at_path(path), severity=severity)


def _labels(model: Model) -> Iterator[Finding]:
    for index, output in enumerate(model.config.output if model.config is not None else ()):
        if outside(output.label_filename):
            yield FILE_OUTSIDE.found(f"label_filename is {output.label_filename!r}", model.at("output", index=index))
        elif output.label_filename and not (model.folder / output.label_filename).is_file():
            what = f"output {output.name!r}: {output.label_filename!r} is not there"
            yield LABELS_MISSING.found(what, model.at("output", index=index))


def _tree(model: Model) -> Iterator[Path]:
    """Files and links of the model's folder and of its version folders; links are not followed."""
    for entry in model.entries:
        if entry.is_symlink() or not entry.is_dir():
            yield entry
        elif proper(entry.name) is not None:
            for folder, folders, files in os.walk(entry):
                yield from (Path(folder, name) for name in sorted(folders) if Path(folder, name).is_symlink())
                yield from (Path(folder, name) for name in sorted(files))


def _file(model: Model, path: Path) -> Iterator[Finding]:
    where = model.at_path(path)
    inside = path.relative_to(model.folder).parts
    found = path.lstat()
    if path.name == STUB and len(inside) <= 2:
        meant = model.backend == "python"  # how a model brings a Python of another version
        yield STUB_FILE.found(f"{path.name} would be run", where, severity="warning" if meant else None)
    elif fnmatch.fnmatch(path.name, "libtriton_*.so") and len(inside) <= 2:
        meant = path.name == f"libtriton_{model.backend}.so" and model.backend not in USUAL_FILES
        yield BACKEND_LIBRARY.found(f"{path.name!r} would be loaded", where, severity="note" if meant else None)
    elif stat.S_ISLNK(found.st_mode):
        if len(inside) > 1 or path.exists():  # beside config.pbtxt a dangling one is worse: link-dangling
            yield LINK.found(f"a link to {str(path.readlink())!r}", where)
    elif not stat.S_ISDIR(found.st_mode):
        if found.st_nlink > 1 and len(inside) > 1:
            yield HARD_LINK.found(f"{found.st_nlink} names", where)
        if _is_stray(model, path, inside):
            yield STRAY_FILE.found(f"{path.name!r} is used by nothing", where)


def _is_stray(model: Model, path: Path, inside: tuple[str, ...]) -> bool:
    if len(inside) > 1 and int(inside[0]) in model.published:
        return False  # its manifest says what belongs
    if any(fnmatch.fnmatch(path.name, pattern) for pattern in _TOOLS) or (model.ensemble and not path.stat().st_size):
        return False
    if any(fnmatch.fnmatch(path.name, pattern) for pattern in _JUNK):
        return True
    if (
        model.backend not in READS_ONE_FILE
        or model.runtime
        or path.name == configs.CONFIG_FILE
        or model.mentions(path.name)
    ):
        return False
    if len(inside) == 1:
        return path.name not in {output.label_filename for output in model.config.output} if model.config else False
    return not _is_part(model, int(inside[0]), "/".join(inside[1:]))


def _is_part(model: Model, version: int, name: str) -> bool:
    """Whether a file of a version folder is the artefact, or data of it."""
    header = model.headers.get(version)
    folder = f"{model.artefact}/" if (model.folder / str(version) / model.artefact).is_dir() else ""
    data = {f"{folder}{location}" for location in header.locations} if header else set()
    return name == model.artefact or (bool(folder) and name.startswith(folder)) or name in data
