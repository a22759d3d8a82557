"""Ensembles: whether the steps' models are there and the tensors between them fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelport.repository import config as configs
from modelport.repository.doctor.context import Context
from modelport.repository.doctor.finding import Finding, Place, Rule
from modelport.repository.doctor.model import Model, seen_dims, type_name
from modelport.repository.doctor.targets import Target

ENSEMBLE_INVALID = Rule(
    id="ensemble-invalid",
    severity="error",
    title="An ensemble has no steps, or has instance_group, optimization, model_warmup or a backend",
    why="Triton refuses the ensemble",
    fix='write platform: "ensemble" and ensemble_scheduling { step [ ... ] }, and none of the others',
)
ENSEMBLE_MODEL = Rule(
    id="ensemble-model",
    severity="error",
    title="A step's model is not in the repository, or its version is not served",
    why="the ensemble does not load",
    fix="add the model, or correct the step",
)
ENSEMBLE_TENSOR = Rule(
    id="ensemble-tensor",
    severity="error",
    title="A tensor of an ensemble is unknown to a step's model, made or used by nothing, or of another type or shape",
    why="Triton refuses the ensemble",
    fix="correct input_map and output_map: the key is the model's tensor, the value the ensemble's",
)
ENSEMBLE_BATCH = Rule(
    id="ensemble-batch",
    severity="error",
    title="An ensemble's max_batch_size is above that of a step's model",
    why="Triton refuses the ensemble",
    fix="lower the ensemble's max_batch_size",
)
ENSEMBLE_HANGS = Rule(
    id="ensemble-queue-hangs",
    severity="warning",
    title="A step's model has a max_queue_size, in a target where that can hang the ensemble",
    why="in Triton 2.51.0 an ensemble's request that finds a step's queue full is never answered",
    fix="limit requests in front of the ensemble, or serve with a later container",
)
ENSEMBLE_UNLIMITED = Rule(
    id="ensemble-queue-unlimited",
    severity="note",
    title="A step's model has no max_queue_size, and the ensemble no limit of requests in flight",
    why="a step that is slower than the one before it collects requests, with their tensors, until memory ends",
    fix="set default_queue_policy { max_queue_size: N } in the steps' models, or max_inflight_requests in the ensemble",
)
RULES = (ENSEMBLE_INVALID, ENSEMBLE_MODEL, ENSEMBLE_TENSOR, ENSEMBLE_BATCH, ENSEMBLE_HANGS, ENSEMBLE_UNLIMITED)


def check(context: Context) -> Iterator[Finding]:
    """Every ensemble."""
    for model in context.models:
        if model.ensemble:
            yield from _form(model)
            yield from _flow(model)
            for index in range(len(_steps(model))):
                yield from _step(context, model, index)


def _steps(model: Model) -> Any:
    assert model.config is not None
    return model.config.ensemble_scheduling.step


def _at(model: Model, index: int) -> Place:
    return model.at("ensemble_scheduling", "step", index=index)


def _form(model: Model) -> Iterator[Finding]:
    config = model.config
    assert config is not None
    if not _steps(model):
        yield ENSEMBLE_INVALID.found("it has no steps", model.at("ensemble_scheduling"))
    if config.platform != configs.ENSEMBLE:
        yield ENSEMBLE_INVALID.found(f"it has steps, and its platform is {config.platform!r}", model.at("platform"))
    for name, there in (
        ("instance_group", bool(config.instance_group)),
        ("optimization", config.HasField("optimization")),
        ("model_warmup", bool(config.model_warmup)),
        ("backend", bool(config.backend)),
    ):
        if there:
            yield ENSEMBLE_INVALID.found(f"it has {name}", model.at(name))


def _flow(model: Model) -> Iterator[Finding]:
    """Each tensor is given or made once, and used."""
    config = model.config
    assert config is not None
    given, wanted = [t.name for t in config.input], [t.name for t in config.output]
    made = [name for step in _steps(model) for name in step.output_map.values()]
    used = {name for step in _steps(model) for name in step.input_map.values()}
    for index, step in enumerate(_steps(model)):
        for name in sorted(set(step.input_map.values()) - {*given, *made}):
            what = f"step {index + 1} ({step.model_name}) takes {name!r}, which nothing makes"
            yield ENSEMBLE_TENSOR.found(what, _at(model, index))
        for name in sorted(set(step.output_map.values()) - {*used, *wanted}):
            what = f"step {index + 1} ({step.model_name}) makes {name!r}, which nothing uses"
            yield ENSEMBLE_TENSOR.found(what, _at(model, index))
    for index, name in enumerate(given):
        if name not in used:
            yield ENSEMBLE_TENSOR.found(f"no step takes the input {name!r}", model.at("input", index=index))
    for index, name in enumerate(wanted):
        if name not in {*made, *given}:
            yield ENSEMBLE_TENSOR.found(f"no step makes the output {name!r}", model.at("output", index=index))
    for name in sorted({name for name in made if made.count(name) > 1} | (set(made) & set(given))):
        yield ENSEMBLE_TENSOR.found(f"{name!r} is made more than once", model.at("ensemble_scheduling"))


def _step(context: Context, model: Model, index: int) -> Iterator[Finding]:
    step, where = _steps(model)[index], _at(model, index)
    name = f"step {index + 1} ({step.model_name})"
    other = context.model(step.model_name)
    if other is None:
        yield ENSEMBLE_MODEL.found(f"{name}: the repository has no such model", where)
        return
    if step.model_version > 0 and other.versions and step.model_version not in other.selected:
        there = ", ".join(map(str, other.selected)) or "none"
        yield ENSEMBLE_MODEL.found(f"{name}: version {step.model_version} is not served; {there} is", where)
    if other.config is None:
        return
    assert model.config is not None
    most, batch = other.config.max_batch_size, model.config.max_batch_size
    if most and batch > most:
        yield ENSEMBLE_BATCH.found(f"max_batch_size is {batch}; that of {name} is {most}", model.at("max_batch_size"))
    yield from _maps(model, other, index, name)
    yield from _queue(model, other, index, name, context.target)


def _maps(model: Model, other: Model, index: int, name: str) -> Iterator[Finding]:
    step, where = _steps(model)[index], _at(model, index)
    assert model.config is not None and other.config is not None
    outside = {t.name: t for t in (*model.config.input, *model.config.output)}
    for word, mapping, group in (
        ("input", step.input_map, other.config.input),
        ("output", step.output_map, other.config.output),
    ):
        tensors = {tensor.name: tensor for tensor in group}
        if not tensors:  # to be completed by its backend
            continue
        for inner in sorted(set(mapping) - set(tensors)):
            yield ENSEMBLE_TENSOR.found(f"{name} has no {word} {inner!r}", where)
        for inner, tensor in tensors.items():
            if word == "input" and inner not in mapping and not tensor.optional:
                yield ENSEMBLE_TENSOR.found(f"{name}: its input {inner!r} is given nothing", where)
        for problem in _unequal(mapping, tensors, outside, model, other):
            yield ENSEMBLE_TENSOR.found(f"{name}: {problem}", where)


def _unequal(
    mapping: Mapping[str, str], tensors: Mapping[str, Any], outside: Mapping[str, Any], model: Model, other: Model
) -> Iterator[str]:
    """Differences between the ensemble's own inputs and outputs and the tensors that they become."""
    for inner, outer in sorted(mapping.items()):
        if inner not in tensors or outer not in outside:
            continue
        mine, theirs = outside[outer], tensors[inner]
        if mine.data_type != theirs.data_type:
            yield f"{inner!r} is {type_name(theirs)}, {outer!r} of the ensemble {type_name(mine)}"
        else:
            have, want = _full(mine, seen_dims(mine), model), _full(theirs, tuple(theirs.dims), other)
            if len(have) != len(want) or any(a != b and -1 not in (a, b) for a, b in zip(have, want, strict=True)):
                yield f"{inner!r} has the shape {list(want)}, {outer!r} of the ensemble {list(have)}"


def _full(tensor: Any, dims: tuple[int, ...], model: Model) -> tuple[int, ...]:
    return (-1, *dims) if model.batched else dims


def _queue(model: Model, other: Model, index: int, name: str, target: Target) -> Iterator[Finding]:
    assert model.config is not None and other.config is not None
    if other.ensemble:
        return
    limit = other.config.dynamic_batching.default_queue_policy.max_queue_size
    if limit and target.full_step_hangs:
        yield ENSEMBLE_HANGS.found(f"{name} has max_queue_size {limit}", _at(model, index))
    if not limit and not target.full_step_hangs and not model.config.ensemble_scheduling.max_inflight_requests:
        yield ENSEMBLE_UNLIMITED.found(f"{name} has no max_queue_size", _at(model, index))
