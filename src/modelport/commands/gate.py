"""The verb `gate`: what a version of a model must be worth before `promote` lets it serve."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from modelport.commands import evaluation_data
from modelport.errors import DataError, UsageError
from modelport.evaluate import gate_data, metrics
from modelport.evaluate.data import EvaluationData
from modelport.lifecycle import served
from modelport.repository import events, journal, registry, switch
from modelport.repository.gate import Gate
from modelport.repository.layout import DEFAULT_REPOSITORY, version_folder
from modelport.spec import VARIES


@dataclass(frozen=True, kw_only=True)
class GateState:
    """The gates of a model.

    Attributes:
        model: Model name.
        gates: Its rules, by metric.
        data: Where the rows come from that they are judged with; empty where there are none.
        rows: How many these are.
        columns: Which columns of the table that was given went where, where their order said that and not their names.
    """

    model: str
    gates: tuple[Gate, ...]
    data: str = ""
    rows: int = 0
    columns: str = ""


def gate(
    model: str,
    rule: Gate | None = None,
    *,
    data: str | None = None,
    remove: str | None = None,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
) -> GateState:
    """Set or take away a rule of a model, or the data that it is judged with; without any, nothing changes.

    Args:
        model: Model name.
        rule: The rule; it takes the place of one for the same metric.
        data: See `evaluation_data.find`. It is copied, so that the file may go. Left out: what is kept, or else what a
            recipe kept.
        remove: The metric whose rule is taken away.
        repository: Folder of the model repository.

    Returns:
        What holds now.

    Raises:
        UsageError: The rule says nothing or cannot be right; its metric does not fit the model's output or the labels.
        DataError: There is no data, or it does not fit the model.
        ModelNotFoundError, VersionNotFoundError: There is no such model, or it has no version.
    """
    root = Path(repository)
    version_folder(root, model)
    if rule is not None:
        rule = checked(rule)
    if rule is None and data is None and remove is None:
        return _state(root, model)
    with journal.changing(root, model):
        config, record = switch.read(root, model)
        known = {one.metric: one for one in record.gates}
        if remove is not None:
            _require_there(model, remove, known)
            del known[metrics.known(remove)]
        if rule is not None:
            known[rule.metric] = rule
        gates = tuple(known[name] for name in sorted(known))
        columns = _keep_data(root, model, gates, data) if rule is not None or data is not None else ""
        switch.write(root, model, config, replace(record, gates=gates))
        words = "; ".join(one.words() for one in gates) or "none"
        events.append(root, events.event("gates", f"the model's gates are: {words}", model=model))
    return replace(_state(root, model), columns=columns)


def checked(rule: Gate) -> Gate:
    """The rule with its metric's name as it is kept.

    Raises:
        UsageError: It cannot be right; all that is wrong is named.
    """
    metric = metrics.known(rule.metric)
    less = metric in metrics.LESS_IS_BETTER
    limits = {"--min": rule.min, "--max": rule.max, "--max-drop": rule.max_drop}
    wrong = [f"{name} {value}" for name, value in limits.items() if value is not None and not math.isfinite(value)]
    wrong += _out_of_range(metric, limits)
    wrong += ["neither --min, --max nor --max-drop is given"] if all(v is None for v in limits.values()) else []
    wrong += (
        [f"--min does not fit {metric}, of which less is better: use --max"] if less and rule.min is not None else []
    )
    wrong += (
        [f"--max does not fit {metric}, of which more is better: use --min"]
        if not less and rule.max is not None
        else []
    )
    if wrong:
        raise UsageError(
            f"this is no gate for {metric}",
            why="; ".join(wrong),
            fix="write for example --metric accuracy --min 0.95 --max-drop 0.005",
        )
    return replace(rule, metric=metric)


def _out_of_range(metric: str, limits: Mapping[str, float | None]) -> list[str]:
    """The limits that no version could keep, or that every one keeps."""
    low, high = metrics.bounds(metric)
    wrong = []
    for name, value in limits.items():
        least, most = (0.0, high - low) if name == "--max-drop" else (low, high)
        if value is None or not math.isfinite(value) or least <= value <= most:
            continue
        share = f", {value:g} % is written {value / 100:g}" if high - low == 1 and 1 < value <= 100 else ""
        beyond = f"above {most:g}" if value > most else f"below {least:g}"
        wrong.append(f"{name} {value} is {beyond}{share}")
    return wrong


def require_fit(repository: Path, model: str, gates: Sequence[Gate], data: EvaluationData) -> None:
    """Refuse data or metrics that do not fit the model, by its tensors and the golden answers of a version.

    Raises:
        DataError, UsageError: They do not fit.
    """
    serving = registry.standing(repository, model).serving
    proven = served.read(version_folder(repository, model, serving), compare_files=False)
    wanted = {tensor.name: tensor for tensor in proven.manifest.spec.inputs}
    wrong = [f"it has no {name!r}" for name in wanted if name not in data.inputs]
    wrong += [f"the model has no input {name!r}" for name in data.inputs if name not in wanted]
    for name in {*wanted} & {*data.inputs}:
        dims, shape = wanted[name].dims, data.inputs[name].shape[1:]
        if len(dims) != len(shape) or any(d not in (VARIES, s) for d, s in zip(dims, shape, strict=True)):
            wrong.append(f"{name!r} has rows of shape {list(shape)}, the model takes {list(dims)}")
    if wrong:
        raise DataError(
            f"{data.name} does not fit the model {model!r}",
            why="; ".join(wrong),
            fix="name the arrays as the model's inputs are named, rows along the first axis",
        )
    golden = proven.golden.outputs[proven.manifest.spec.outputs[0].name]
    alike = golden[np.arange(data.rows) % len(golden)] if proven.evidence.batched else np.stack([golden] * data.rows)
    for rule in gates:
        metrics.prepare(rule.metric, alike, data.labels)


def _keep_data(root: Path, model: str, gates: Sequence[Gate], wanted: str | None) -> str:
    """Keep the data that is given, or any where none is there; nothing is written that does not fit.

    Returns:
        Which columns of a table went where, where only their order said that.
    """
    serving = registry.standing(root, model).serving
    manifest = served.read(version_folder(root, model, serving), compare_files=False).manifest
    data = evaluation_data.find(wanted, root, model, manifest.spec, version=manifest.version)
    require_fit(root, model, gates, data)
    if wanted is not None or not gate_data.exists(root, model):
        gate_data.keep(root, model, data)
    return data.columns


def _require_there(model: str, metric: str, known: dict[str, Gate]) -> None:
    if metrics.known(metric) not in known:
        raise UsageError(
            f"model {model!r} has no gate for {metric}",
            why=f"it has {', '.join(known) or 'none'}",
            fix="name one that it has",
        )


def _state(root: Path, model: str) -> GateState:
    gates = switch.read(root, model)[1].gates
    if not gate_data.exists(root, model):
        return GateState(model=model, gates=gates)
    data = gate_data.read(root, model)
    return GateState(model=model, gates=gates, data=data.name, rows=data.rows)
