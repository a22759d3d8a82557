"""The verb `plan`: divide this machine's cores among the models that are served."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelport.bench.tuning import space
from modelport.bench.tuning.space import Setting
from modelport.commands.serve import servable
from modelport.errors import UsageError
from modelport.lifecycle import configure
from modelport.repository import config as configs
from modelport.repository.layout import DEFAULT_REPOSITORY, config_path
from modelport.server import connection, cores
from modelport.server.cores import Part
from modelport.server.handle import ServerHandle

EQUAL, GIVEN, MEASURED = "equal", "given", "measured"
FEWEST = 100  # requests whose computing time says which models are busy
_PYTHON = "python"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one model gets.

    Attributes:
        model: Model name.
        backend: Its backend.
        share: Its part of the cores by weight.
        own: Whole cores that are its own; 0: it takes turns with other small ones.
        instances: Instances it is to have.
        threads: Threads of each; 1 where its backend cannot be told, and its code decides.
        instances_now: Instances that it has.
        threads_now: Threads of each that it has; 0 where its backend cannot be told.
        changes: Whether its configuration would say something else than now.
        why: The reason, one line.
    """

    model: str
    backend: str
    share: float
    own: int
    instances: int
    threads: int
    instances_now: int
    threads_now: int
    changes: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class Division:
    """A plan.

    Attributes:
        cores: Whole cores that are divided.
        affinity: Cores that this process may run on.
        quota: The smallest CPU quota of its control groups, in cores; None without one.
        weights: Where the weights come from: `equal`, `given`, `measured`.
        explained: That in words.
        rows: One for each model, the largest share first.
        left_out: Models that are not planned, each with the reason.
        written: Models whose configuration was changed.
        server: The running server that took it up; empty where none runs.
    """

    cores: int
    affinity: int
    quota: float | None
    weights: str
    explained: str
    rows: tuple[Row, ...]
    left_out: Mapping[str, str]
    written: tuple[str, ...] = ()
    server: str = ""


def plan(
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    *,
    weights: Mapping[str, float] | None = None,
    total: int | None = None,
    write: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> Division:
    """Divide the cores among the models by weight; instances and threads of a model never use more than it gets.

    While a server runs it is about the models that it serves, else about all that have a version to serve.

    Args:
        repository: Folder of the model repository.
        weights: Model name to how much it counts; 1 for those that are not named. Left out: the parts that the models
            had in the running server's computing time, or, without any, equal ones.
        total: How many cores are divided; left out, those that this process may use. More only without `write`.
        write: Write instances and threads into the models' configurations. All else in these stays; a running server
            takes them up, model by model, and each is asked for its golden answers.
        report: Called with one line at each step.

    Raises:
        RepositoryError: There is no such repository.
        UsageError: A weight is of a model that is not planned, or no number from 0; `total` cannot be used.
        ManifestError: A configuration cannot be read.
        ServerError, VerificationError, ClientError: With `write`, a model does not load or answer as it should; its
            configuration is as before. Models before it, in the order of the plan, are changed.
    """
    root, total = Path(repository), _total(total, write)
    handle = connection.find(root)
    names = servable(root)
    if handle is not None:
        ready = {state.model for state in handle.index() if state.ready}
        names = [name for name in names if name in ready]
    found = {name: configs.read(config_path(root, name)) for name in names}
    left_out = {name: why for name, config in found.items() if (why := _unfit(config))}
    models = {name: config for name, config in found.items() if name not in left_out}
    kind, explained, heavy = _weights(models, weights, handle)
    parts = cores.divide(total, heavy)
    order = sorted(models, key=lambda name: (-parts[name].share, name))
    rows = tuple(_row(name, models[name], parts[name], total) for name in order)
    if write:
        _write(root, rows, report)
    return Division(
        cores=total,
        affinity=len(os.sched_getaffinity(0)),
        quota=min(cores.quotas(), default=None),
        weights=kind,
        explained=explained,
        rows=rows,
        left_out=left_out,
        written=tuple(row.model for row in rows if row.changes) if write else (),
        server=handle.http_url if write and handle is not None else "",
    )


def _total(wanted: int | None, write: bool) -> int:
    here = cores.usable()
    if wanted is None:
        return here
    if wanted < 1 or (write and wanted > here):
        raise UsageError(
            f"{wanted} cores cannot be divided" if wanted < 1 else f"a plan for {wanted} cores is not written here",
            why=f"this process may use {here}; more threads than that take the cores from each other",
            fix="leave the number out" if write else "give a number from 1",
        )
    return wanted


def _unfit(config: configs.ModelConfig) -> str:
    """Why a model's instances are not planned; empty where they are."""
    groups = config.instance_group
    if config.platform == configs.ENSEMBLE:
        return "an ensemble: its steps run, and are planned"
    if config.backend != _PYTHON and config.backend not in space.THREADS:
        return f"how the backend {config.backend or config.platform!r} uses cores is not known"
    if any(group.gpus or group.kind == group.KIND_GPU for group in groups):
        return "it runs on a GPU"
    return f"it has {len(groups)} instance groups, set by hand" if len(groups) > 1 else ""


def _weights(
    models: Mapping[str, configs.ModelConfig], given: Mapping[str, float] | None, handle: ServerHandle | None
) -> tuple[str, str, dict[str, float]]:
    """Where the weights come from, that in words, and the weights."""
    if given is not None:
        wrong = [f"{name} is not planned" for name in given if name not in models]
        wrong += [f"{name} is {weight:g}" for name, weight in given.items() if not 0 <= weight < math.inf]
        if wrong:
            raise UsageError(
                f"these weights cannot be used: {'; '.join(wrong)}",
                why=f"planned are {', '.join(models) or 'no models'}; a weight is a number from 0",
                fix="name models of the plan; 'modelport plan' without weights shows them",
            )
        return GIVEN, "as given; 1 for models that were not named", {name: given.get(name, 1.0) for name in models}
    if handle is None:
        return EQUAL, "equal, for no server runs whose statistics would tell", dict.fromkeys(models, 1.0)
    spent, requests = dict.fromkeys(models, 0.0), 0
    for line in handle.statistics():
        if line.get("name") in spent:
            stats = line.get("inference_stats", {})
            spent[line["name"]] += float(stats.get("compute_infer", {}).get("ns", 0))
            requests += int(stats.get("success", {}).get("count", 0))
    if requests < FEWEST or not any(spent.values()):
        why = f"equal, for the running server has answered only {requests} requests since it loaded its models"
        return EQUAL, why, dict.fromkeys(models, 1.0)
    return MEASURED, f"parts of the computing time of {requests} requests at {handle.http_url}", spent


def _row(model: str, config: configs.ModelConfig, part: Part, total: int) -> Row:
    now = space.present(config, cores=total)
    parameter = space.THREADS.get(config.backend)
    instances, threads = cores.split(part.own, instances=now.instances, threaded=parameter is not None)
    said = config.parameters[parameter].string_value if parameter and parameter in config.parameters else ""
    told = parameter is None or said == str(threads)
    count = config.instance_group[0].count if config.instance_group else 0
    return Row(
        model=model,
        backend=config.backend,
        share=part.share,
        own=part.own,
        instances=instances,
        threads=threads,
        instances_now=now.instances,
        threads_now=now.threads,
        changes=not (told and count == instances),
        why=_why(part, instances, now.instances, threaded=parameter is not None),
    )


def _why(part: Part, instances: int, before: int, *, threaded: bool) -> str:
    if not part.own:
        return f"{part.share:.2f} of a core: one thread, in turns with others"
    cores_of_its_own = f"{part.share:.2f} cores: {part.own} of its own"
    if part.own == 1:
        return cores_of_its_own
    if not threaded:
        return f"{cores_of_its_own}; its code decides on threads, so an instance counts for one core"
    kept = "as many instances as before" if instances == before else "instances among which they divide evenly"
    return f"{cores_of_its_own}, {kept}"


def _write(root: Path, rows: tuple[Row, ...], report: Callable[[str], None]) -> None:
    for row in rows:
        if not row.changes:
            continue
        threads = row.threads if row.backend in space.THREADS else 0
        setting = Setting(instances=row.instances, threads=threads, batch=0, delay_us=0)
        configure.configure(
            row.model,
            lambda config, setting=setting: space.applied(config, setting),  # type: ignore[misc]
            reason=f"modelport plan: {row.why}",
            repository=root,
            report=report,
        )
