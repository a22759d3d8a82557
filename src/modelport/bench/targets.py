"""From what was asked for to what is measured: the servers, the versions, their inputs, and a first right answer."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from modelport.bench import golden, places
from modelport.bench.asked import GOLDEN, RANDOM, Asked
from modelport.bench.golden import Recorded
from modelport.bench.perf_analyzer import Job
from modelport.bench.places import Place, Report, Wanted
from modelport.client import Client
from modelport.errors import ModelportError, RepositoryError, RequestError, UsageError
from modelport.lifecycle import served
from modelport.repository.layout import parse_reference, version_folder

TIMEOUT_S = 60.0


def jobs(asked: Asked, folder: Path, stack: contextlib.ExitStack, report: Report) -> dict[str, Job]:
    """What is measured, by its name; the first is what was asked for, the second what it is measured against.

    Where golden inputs are sent, the server has answered the first of them rightly.

    Args:
        asked: What was asked for.
        folder: Where data files go.
        stack: What stops a temporary server.
        report: Called with one line at each step.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such model or version.
        ServerError: A temporary server does not start.
        VerificationError: A server does not answer as it should.
        UsageError: What was asked for is the same twice; or a server wants a key.
    """
    pairs = _by_url(asked) if asked.url is not None else _by_repository(asked, stack, report)
    found: dict[str, Job] = {}
    for number, (model, version, place) in enumerate(pairs):
        name = f"{model}/{version}" if version is not None else model
        name += f" at {place.url}" if place.kind == "url" else f" over {place.protocol}"
        if name in found:
            raise UsageError(
                f"{name} cannot be measured against itself",
                why="--against names the same version",
                fix="name another version, model or server",
            )
        if place.kind == "url":
            _require_open(model, version, place)
        inputs = _inputs(asked, model, version, folder / f"inputs-{number}.json", name, report)
        if inputs is not None:
            _check_answer(asked, model, version, place)
        found[name] = Job(
            place=place,
            model=model,
            version=version,
            inputs=inputs,
            batch_size=asked.batch_size,
            shared_memory=asked.shared_memory,
            interval_s=asked.interval_s,
            flags=asked.flags,
        )
    return found


def facts(job: Job) -> dict[str, Any]:
    """What is to be remembered about a target."""
    about = places.tell(job.place, "/v2") or {}
    return {
        "model": job.model,
        "version": job.version,
        "server": job.place.words,
        "triton": about.get("version", "not known"),
        "protocol": job.place.protocol,
        "inputs": words(job),
        "config": places.tell(job.place, f"/v2/models/{job.model}/config"),
    }


def words(job: Job) -> str:
    """Which inputs are sent."""
    if job.inputs is None:
        return "inputs of perf_analyzer's flags" if _own_inputs(job.flags) else "random inputs"
    return f"{job.inputs.samples} golden input{'s' if job.inputs.samples != 1 else ''}"


def _by_url(asked: Asked) -> list[tuple[str, int | None, Place]]:
    """One target at the URL, or two at one URL, or one at two."""
    first = (*parse_reference(asked.reference), _at(asked, asked.url or ""))
    if asked.against is None:
        return [first]
    if asked.second_url is not None:
        return [first, (first[0], first[1], _at(asked, asked.second_url))]
    return [first, (*parse_reference(asked.against), first[2])]


def _at(asked: Asked, url: str) -> Place:
    return places.at(url, repository=asked.repository, ca_file=asked.ca_file)


def _by_repository(asked: Asked, stack: contextlib.ExitStack, report: Report) -> list[tuple[str, int | None, Place]]:
    references = [asked.reference] + ([asked.against] if asked.against is not None else [])
    versions: list[Wanted] = [places.wanted(asked.repository, *parse_reference(text)) for text in references]
    place = stack.enter_context(
        places.serving(asked.repository, versions, protocol=asked.spoken, own=asked.shared_memory, report=report)
    )
    return [(w.model, w.version, place) for w in versions]


def _inputs(asked: Asked, model: str, version: int | None, path: Path, name: str, report: Report) -> Recorded | None:
    """The golden inputs, written; None where random ones are to be sent, which is said."""
    if _own_inputs(asked.flags):
        report(f"{name}: the inputs are those of the flags behind --")
        return None
    if asked.inputs == RANDOM:
        report(f"{name}: random inputs, as asked for")
        return None
    try:
        wanted = places.wanted(asked.repository, model, version)
        written = golden.write(version_folder(asked.repository, model, wanted.version), path)
    except RepositoryError as exc:
        if asked.inputs == GOLDEN:
            raise
        report(f"{name}: random inputs, for there are no golden ones: {exc.what}")
        return None
    report(f"{name}: its inputs are the golden ones of {wanted}")
    return written


def _own_inputs(flags: tuple[str, ...]) -> bool:
    return any(flag.startswith(("--input-data", "--data-directory")) for flag in flags)


def _require_open(model: str, version: int | None, place: Place) -> None:
    """Refuse a server that wants a key: perf_analyzer takes one in its argument list only, which everybody on this
    machine can read. modelport's gateway, besides, answers nothing of what perf_analyzer asks first."""
    try:
        with Client(place.url, timeout_s=TIMEOUT_S, token="", retries=0, ca_file=place.ca_file) as client:
            client.spec(model, version)
    except RequestError as error:
        if error.status in (401, 403):
            raise UsageError(
                f"{place.url} cannot be measured with perf_analyzer: it wants a key",
                why="perf_analyzer takes a key in its argument list only, which everybody on this machine can read; "
                "and a gateway answers nothing about configuration and statistics, which it asks for first",
                fix=f"measure the server behind it, on its machine: 'modelport bench {model}' without --url; "
                "what a gateway adds is measured by 'python benchmarks/gateway.py'",
            ) from error
    except ModelportError:
        return  # perf_analyzer will say it, or it is a matter of this client alone


def _check_answer(asked: Asked, model: str, version: int | None, place: Place) -> None:
    """Ask for one golden row: a server that answers wrongly, or another model, is not worth measuring."""
    wanted = places.wanted(asked.repository, model, version)
    proven = served.read(version_folder(asked.repository, model, wanted.version), compare_files=False)
    with Client(place.url, timeout_s=TIMEOUT_S, token="", ca_file=place.ca_file) as client:
        served.replay_one(client, proven, model=model, version=version, where=place.words)
