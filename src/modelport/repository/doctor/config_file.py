"""`config.pbtxt` as a file, and who runs the model: name, backend, platform, runtime."""

from __future__ import annotations

from collections.abc import Iterator

from modelport.repository import config as configs
from modelport.repository.doctor import text_fields
from modelport.repository.doctor.backends import AOTI, GUESSES, PLATFORMS
from modelport.repository.doctor.context import Context
from modelport.repository.doctor.finding import Finding, Rule
from modelport.repository.doctor.model import Model
from modelport.repository.doctor.targets import EMBEDDED_BACKENDS, Target
from modelport.spec import MODEL_NAME

CONFIG_MISSING = Rule(
    id="config-missing",
    severity="warning",
    title="A model has no config.pbtxt",
    why="the container fills it in by itself where the backend can, with defaults that differ between releases; the "
    "embedded server refuses the model",
    fix="write a complete config.pbtxt; `curl HOST/v2/models/NAME/config` of a server that loaded it is a beginning",
)
CONFIG_UNREADABLE = Rule(
    id="config-unreadable",
    severity="error",
    title="A config.pbtxt is no model configuration",
    why="Triton refuses the model, and says only 'failed to read text proto'",
    fix="correct the line",
)
CONFIG_TARGET = Rule(
    id="config-target",
    severity="error",
    title="A config.pbtxt has a field that the target container does not know",
    why="the container cannot read the file then, and refuses the model",
    fix="remove the field, or serve with a later container",
)
CONFIG_NAME = Rule(
    id="config-name",
    severity="error",
    title="The name in config.pbtxt is not the folder's name",
    why="Triton refuses the model: 'directory name must equal model name'",
    fix="write the folder's name",
    repair="edit",
)
BACKEND_MISSING = Rule(
    id="backend-missing",
    severity="warning",
    title="A config.pbtxt says neither backend nor platform",
    why="Triton guesses it from the files in the first folder beside config.pbtxt, whichever that is",
    fix="write the backend",
    repair="edit",
)
BACKEND_ABSENT = Rule(
    id="backend-absent",
    severity="warning",
    title="A model's backend is not in the target container",
    why="the model does not load there unless the backend is added",
    fix="add the backend to the container, convert the model to ONNX, or choose another --target",
)
BACKEND_EMBEDDED = Rule(
    id="backend-embedded",
    severity="note",
    title="A model's backend is not in the embedded server",
    why="the embedded server has the backends " + ", ".join(sorted(EMBEDDED_BACKENDS)),
    fix="serve it with the container, or convert it to ONNX",
)
PLATFORM_MISMATCH = Rule(
    id="platform-mismatch",
    severity="error",
    title="Backend and platform do not belong together",
    why="Triton refuses the model: 'unexpected platform and backend pair'",
    fix="remove the platform; the backend is enough",
)
RUNTIME_SET = Rule(
    id="runtime-set",
    severity="warning",
    title='A config.pbtxt says `runtime: "model.py"` (a note for a pytorch model that is Python code)',
    why="it forces a Python-based backend where the container has a compiled one: for onnxruntime the model does not "
    "load there, for pytorch it is slower",
    fix="remove the line; Triton takes the compiled backend where there is one",
    repair="edit",
)
RULES = (
    CONFIG_MISSING,
    CONFIG_UNREADABLE,
    CONFIG_TARGET,
    CONFIG_NAME,
    BACKEND_MISSING,
    BACKEND_ABSENT,
    BACKEND_EMBEDDED,
    PLATFORM_MISMATCH,
    RUNTIME_SET,
)


def check(context: Context) -> Iterator[Finding]:
    """Every model's file, name and backend."""
    for model in context.models:
        yield from _file(model, context.target)
        if model.config is not None:
            yield from _name(model)
            yield from _backend(model)
            yield from _platform(model)
        if model.backend:
            yield from _served(model, context.target)


def _file(model: Model, target: Target) -> Iterator[Finding]:
    if model.problem:
        yield CONFIG_UNREADABLE.found(model.problem, model.at_line(model.problem_line))
    elif model.config is None:
        completes = model.guessed not in ("", "pytorch")
        yield CONFIG_MISSING.found(
            f"there is no {configs.CONFIG_FILE}",
            model.at(),
            severity="warning" if completes else "error",
            why="" if completes else "no backend fills it in by itself here, so Triton refuses the model",
        )
    for path in target.unknown_fields:
        if found := text_fields.find(model.fields, *path):
            yield CONFIG_TARGET.found(
                f"the container {target.name} (Triton {target.triton}) does not know {'.'.join(path)}",
                model.at_line(found[0].line),
            )


def _name(model: Model) -> Iterator[Finding]:
    assert model.config is not None
    if model.config.name not in ("", model.name):
        yield CONFIG_NAME.found(
            f"the name is {model.config.name!r}, the folder {model.name!r}",
            model.at("name"),
            fixable=bool(MODEL_NAME.fullmatch(model.name)),
        )


def _backend(model: Model) -> Iterator[Finding]:
    config = model.config
    assert config is not None
    if model.ensemble or config.backend or config.platform:
        return
    guess = GUESSES.get(config.default_model_filename, "") or model.guessed
    yield BACKEND_MISSING.found(
        f"neither backend nor platform is written; Triton would guess {guess!r}" if guess else "no backend is written",
        model.at(),
        severity="warning" if guess else "error",
        why="" if guess else "nothing in its version folders tells the backend, so Triton refuses the model",
        fixable=bool(guess),
    )


def _platform(model: Model) -> Iterator[Finding]:
    config = model.config
    assert config is not None
    known = config.backend in set(PLATFORMS.values())  # a backend of one's own may have any platform
    if known and config.platform and config.backend != PLATFORMS.get(config.platform):
        yield PLATFORM_MISMATCH.found(
            f"backend {config.backend!r} and platform {config.platform!r}",
            model.at("platform"),
        )
    if config.runtime:
        module = model.backend == "pytorch" and any(
            (model.folder / str(version) / config.runtime).exists() for version in model.versions
        )
        yield RUNTIME_SET.found(
            f"runtime is {config.runtime!r}" + (", as for a model that is Python code" if module else ""),
            model.at("runtime"),
            severity="note" if module else None,
            fixable=config.backend == "onnxruntime",
        )


def _served(model: Model, target: Target) -> Iterator[Finding]:
    where = model.at("backend") if model.at("backend").line else model.at("platform")
    library = f"libtriton_{model.backend}.so"
    folders = [model.folder, *(model.folder / str(version) for version in model.versions)]
    if model.backend not in target.backends and not any((folder / library).exists() for folder in folders):
        gone = model.backend == "tensorflow"
        yield BACKEND_ABSENT.found(
            f"the container {target.name} has no backend {model.backend!r}",
            where,
            severity="error" if gone else "warning",
            why="TensorFlow's backend is not built any more since 25.03; the model does not load" if gone else "",
        )
    if model.config is not None and model.config.platform == AOTI and not target.aoti:
        what = f"the container {target.name} does not know the platform {AOTI!r}"
        yield BACKEND_ABSENT.found(what, model.at("platform"), severity="error")
    if model.backend not in EMBEDDED_BACKENDS:
        yield BACKEND_EMBEDDED.found(f"the embedded server has no backend {model.backend!r}", where)
