"""The verb `evaluate`: score a served model on labelled data, and keep that with the version."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from modelport.bench import places
from modelport.client import Client
from modelport.commands import evaluation_data
from modelport.commands.bench import writable
from modelport.errors import UsageError
from modelport.evaluate import asking, intervals, stored
from modelport.evaluate import metrics as metric_names
from modelport.evaluate.data import EvaluationData
from modelport.evaluate.forms import Array
from modelport.evaluate.scores import Scores, score
from modelport.repository import events, labels, switch
from modelport.repository import manifest as manifests
from modelport.repository.layout import DEFAULT_REPOSITORY, parse_reference, version_folder

TIMEOUT_S = 60.0
MOST_RESAMPLES = 100_000


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What was measured.

    Attributes:
        model: Model name.
        version: The version that answered.
        at: UTC time, ISO 8601.
        server: Where it was served, in words.
        protocol: `http` or `grpc`.
        data: Where the rows come from.
        data_sha256: A digest of them.
        output: The output that was scored.
        scores: Everything that was found.
        columns: Which columns of a table went where, where their order said that and not their names; else empty.
        report: The HTML report; None where none was asked for.
    """

    model: str
    version: int
    at: str
    server: str
    protocol: str
    data: str
    data_sha256: str
    output: str
    scores: Scores
    columns: str = ""
    report: Path | None = None


def evaluate(
    reference: str,
    *,
    data: str | None = None,
    metrics: Sequence[str] = (),
    output: str | None = None,
    url: str | None = None,
    protocol: str | None = None,
    token: str | None = None,
    ca_file: Path | None = None,
    resamples: int = intervals.RESAMPLES,
    report: Path | None = None,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    tell: Callable[[str], None] = lambda _: None,
) -> Evaluated:
    """Score a version by the answers that a server gives to labelled data.

    The result is kept beside the repository, bound to the version by its manifest's digest; the version folder does not
    change.

    Args:
        reference: `NAME` for the version that serves, or `NAME/VERSION`.
        data: A file, a recipe's file, `recipe`, or None; see `evaluation_data.find`.
        metrics: Their names; empty for those of the data and the usual ones for such answers.
        output: The output to score; None for the first.
        url: The server, with `http`, `https`, `grpc` or `grpcs`. None for the repository's running one where it has the
            version loaded, or else a temporary one.
        protocol: `http` or `grpc`, where there is no URL.
        token: Bearer token for the URL; None takes the environment variable MODELPORT_TOKEN.
        ca_file: PEM file with the only authorities to trust, for https and grpcs.
        resamples: How often the rows are drawn for the intervals.
        report: An HTML file to write: tables, confusion matrix, ROC, calibration.
        repository: Folder of the model repository.
        tell: Called with one line at each step.

    Raises:
        UsageError: An option cannot be right; a metric does not fit the output or the labels.
        DataError: There is no such data, or it does not fit the model.
        ModelNotFoundError, VersionNotFoundError: There is no such version.
        ServerError: A temporary server does not start, or does not load the version.
        ClientError: A request got no answer.
    """
    _check(protocol, url, resamples, report)
    for name in metrics:
        metric_names.known(name)  # before any row is asked for
    if report is not None:
        writable(report)
        _pages()  # what it needs may not be installed, which is not to be found out at the end
    root = Path(repository)
    wanted = places.wanted(root, *parse_reference(reference))
    spec = manifests.read(version_folder(root, wanted.model, wanted.version)).spec
    rows = evaluation_data.find(data, root, wanted.model, spec, version=wanted.version, output=output)
    tell(f"asking {wanted} for {rows.rows} rows ({rows.name})")
    if url is not None:
        place = places.at(url, ca_file=ca_file)
        answers = _answers(root, place, wanted, rows, token)
    else:
        with places.serving(root, [wanted], protocol=protocol or places.HTTP, own=False, report=tell) as place:
            answers = _answers(root, place, wanted, rows, "")
    tell("scoring")
    found = score(answers, rows, wanted=metrics, output=output, resamples=resamples)
    done = Evaluated(
        model=wanted.model,
        version=wanted.version,
        at=events.now(),
        server=place.words,
        protocol=place.protocol,
        data=rows.name,
        data_sha256=rows.sha256,
        output=found.output,
        scores=found,
        columns=rows.columns,
        report=report,
    )
    if report is not None:
        names = labels.names(root, wanted.model, wanted.version, found.output)
        _pages().write(report, _facts(done), found, answers[found.output], rows.labels, names)
    kept = {name: value for name, value in vars(done).items() if name not in ("columns", "report")}
    stored.add(root, wanted.model, wanted.version, stored.EVALUATIONS, kept)
    return done


def _pages() -> ModuleType:
    """Loaded only for a report: matplotlib takes a second."""
    from modelport.evaluate import report

    return report


def _check(protocol: str | None, url: str | None, resamples: int, report: Path | None) -> None:
    wrong = []
    if protocol not in (None, *places.PROTOCOLS):
        wrong.append(f"--protocol {protocol} is neither http nor grpc")
    if protocol is not None and url is not None:
        wrong.append("--protocol says again what --url says")
    if not 100 <= resamples <= MOST_RESAMPLES:
        wrong.append(f"--resamples {resamples} is not from 100 to {MOST_RESAMPLES}")
    if report is not None and report.suffix != ".html":
        wrong.append(f"--report {report} does not end with .html")
    if wrong:
        raise UsageError("the model cannot be evaluated so", why="; ".join(wrong), fix="correct these options")


def _answers(
    root: Path, place: places.Place, wanted: places.Wanted, rows: EvaluationData, token: str | None
) -> dict[str, Array]:
    """The answers of this version: where calls are divided among several, those without a number are anybody's."""
    with Client(place.url, timeout_s=TIMEOUT_S, token=token, ca_file=place.ca_file) as client:
        largest = switch.read(root, wanted.model)[0].max_batch_size
        return asking.answers(client, wanted.model, wanted.version, rows, largest=largest)


def _facts(done: Evaluated) -> dict[str, str]:
    return {
        "version": f"{done.model}/{done.version}",
        "output": done.output,
        "data": f"{done.data}, {done.scores.rows} rows, sha256 {done.data_sha256}",
        "served by": f"{done.server}, over {done.protocol}",
        "time": done.at,
    }
