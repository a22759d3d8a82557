"""What a move from one release to another changes: what `modelport doctor` finds for the one and not for the other, and
what the table says of the releases between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelport.repository.doctor.context import Context
from modelport.repository.doctor.finding import Finding, Severity
from modelport.repository.doctor.registry import examine
from modelport.upgrade import conditions
from modelport.upgrade.compose import Service
from modelport.upgrade.releases import Change, Release, Table

_NEWEST = 10**6  # of operator sets and IR versions: the embedded server runs whatever ONNX Runtime is installed
_BACKEND_GONE = "backend-absent"
# Words in a finding of the doctor that depends on a release -> the ability that it is about. What has none of them is
# about what the container is built with.
_ABOUT = {
    "torch_aoti": "aoti",
    "max_inflight_requests": "max_inflight_requests",
    "model_metrics": "model_metrics",
    "response-cache": "cache_mended",
    "ensemble-queue": "full_step_mended",
}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that a move changes.

    Attributes:
        id: Stable name, of the doctor's rule or of the table's row.
        kind: `removed`, `changed`, `mended`, `defect` (there again), `demand`, or `unknown`.
        severity: `error`: what is served now would be refused. `warning`: look at it first. `note`: worth knowing.
        model: Model name; empty where it concerns the whole.
        place: The file with its line; empty where there is none.
        what: What it is.
        why: What comes of it.
        fix: What to do.
        source: An address, or what was measured.
    """

    id: str
    kind: str
    severity: Severity
    model: str = ""
    place: str = ""
    what: str
    why: str
    fix: str
    source: str


def check(
    seen: Context,
    services: Sequence[Service],
    before: Release,
    after: Release,
    table: Table,
    compose: Path | None = None,
    *,
    embedded: bool = False,
) -> tuple[Item, ...]:
    """Everything that the move changes: errors first, then by model.

    Args:
        seen: The repository.
        services: Of the compose file.
        before: What is run now.
        after: What is to be run.
        table: What is known of releases.
        compose: The file itself, for its name.
        embedded: Whether what is run now is the embedded server, with the ONNX Runtime that is installed.
    """
    if before == after and not embedded:
        return ()
    found = [
        *_by_doctor(seen, before, after, table, embedded=embedded),
        *_by_table(seen, services, before, after, table),
        *_cuda(seen, services, before, after),
        *_of_compose(services, after, table, str(compose or "")),
        *_unknown(after, table),
    ]
    rank = {"error": 0, "warning": 1, "note": 2}
    return tuple(sorted(found, key=lambda one: (rank[one.severity], one.kind == "mended", one.model, one.id)))


def _by_doctor(seen: Context, before: Release, after: Release, table: Table, *, embedded: bool) -> Iterator[Item]:
    now, then = _findings(seen, table, before, embedded=embedded), _findings(seen, table, after)
    for key, one in then.items():
        if key not in now:
            severity: Severity = "error" if one.rule == _BACKEND_GONE else one.severity
            yield _item(one, "removed" if severity == "error" else "changed", severity, after, table)
    for key, one in now.items():
        if key not in then and one.severity != "note":
            yield _item(one, "mended", "note", after, table)


def _findings(
    seen: Context, table: Table, release: Release, *, embedded: bool = False
) -> dict[tuple[object, ...], Finding]:
    target = table.target(release)
    if embedded:
        newest = dict.fromkeys(target.max_opsets, _NEWEST)
        target = replace(target, max_opsets=newest, max_ir=_NEWEST)
    found = examine(replace(seen, target=target))
    return {(one.rule, one.model, one.path, one.line, one.severity): one for one in found}


def _item(one: Finding, kind: str, severity: Severity, after: Release, table: Table) -> Item:
    about = next((ability for word, ability in _ABOUT.items() if word in f"{one.rule} {one.what}"), "")
    return Item(
        id=one.rule,
        kind=kind,
        severity=severity,
        model=one.model,
        place=one.place,
        what=one.what,
        why=one.why,
        fix="nothing: it is gone" if kind == "mended" else one.fix,
        source=table.abilities[about][1] if about else table.built(after).source,
    )


def _by_table(
    seen: Context, services: Sequence[Service], before: Release, after: Release, table: Table
) -> Iterator[Item]:
    back = after.container < before.container
    first, last = sorted((before.container, after.container))
    for change in table.changes:
        if change.since is not None and not first < change.since <= last:
            continue
        if back and change.since is not None:
            if change.kind == "mended":
                yield _of_change(change, severity="warning", why="the older release has this defect again")
        elif change.when in conditions.SERVER:
            if conditions.of_server(change.when, seen.models, services):
                yield _of_change(change)
        else:
            for model in seen.models:
                if conditions.of_model(change.when, model, services):
                    yield _of_change(change, model=model.name)


def _of_change(change: Change, *, model: str = "", severity: Severity | None = None, why: str = "") -> Item:
    word = "mended in" if change.kind == "mended" else "since"
    kind = "defect" if why else change.kind
    since = f" ({word} {change.since})" if change.since else ""
    return Item(
        id=change.id,
        kind=kind,
        severity=severity or change.severity,
        model=model,
        what=change.what + since,
        why=why or change.why,
        fix="stay with the later release" if why else change.fix,
        source=change.source,
    )


def _cuda(seen: Context, services: Sequence[Service], before: Release, after: Release) -> Iterator[Item]:
    """Only where a GPU is used."""
    if not conditions.of_server("gpu", seen.models, services) or before.cuda == after.cuda:
        return
    driver = (
        f"driver {after.driver} or later (data centre GPUs: see there)"
        if after.driver
        else "a driver that its page does not name"
    )
    what = f"{after.container} is based on CUDA {after.cuda} and wants {driver}"
    if after.cuda is None:
        what = f"the CUDA version of {after.container} is not known here"
    yield Item(
        id="cuda",
        kind="demand" if after.cuda else "unknown",
        severity="warning",
        what=what + (f"; before it was CUDA {before.cuda}" if before.cuda else ""),
        why="with a driver that is too old the container does not see the GPU",
        fix="compare with nvidia-smi, and with NVIDIA's table of CUDA compatibility",
        source=after.cuda_source or after.source,
    )


def _of_compose(services: Sequence[Service], after: Release, table: Table, place: str) -> Iterator[Item]:
    known, oldest = table.options_of(after), table.releases[0]
    for one in services:
        if one.release != after.container:
            yield Item(
                id="compose-image",
                kind="changed",
                severity="note",
                place=f"{place}: {one.name}",
                what=f"the image is {one.image}",
                why=f"the move is to {after.container}",
                fix=f"write nvcr.io/nvidia/tritonserver:{after.container}-py3",
                source=after.source,
            )
        for option in one.options:
            newer = table.deprecated.get(option)
            if newer is None and any(name.startswith(option) for name in known):  # a name may be cut short
                continue
            yield Item(
                id="option-deprecated" if newer else "option-unknown",
                kind="demand" if newer else "removed",
                severity="note" if newer else "error",
                place=f"{place}: {one.name}",
                what=f"--{option} is deprecated" if newer else f"{after.container} has no option --{option}",
                why="a later release may refuse it" if newer else "Triton ends at its start",
                fix=f"use --{newer}"
                if newer
                else f"leave it out ({oldest.container} to {after.container} were compared)",
                source=table.options_source,
            )


def _unknown(after: Release, table: Table) -> Iterator[Item]:
    if after.onnxruntime is None:
        like = table.target(after)
        yield Item(
            id="onnxruntime-unknown",
            kind="unknown",
            severity="note",
            what=f"which ONNX Runtime and which backends are in {after.container} is not known here",
            why=f"models were compared with the last that is known: ONNX Runtime {like.onnxruntime}",
            fix="try the models on it: modelport verify against a server of that release",
            source=after.source,
        )
