"""The verb `demo`: build the sample models that are missing, serve them, and compare every answer with the source's."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelport.client import Client
from modelport.commands.build import build, current_versions
from modelport.convert.types import Arrays, rows
from modelport.errors import DataError, VerificationError
from modelport.evaluate import metrics
from modelport.evaluate.asking import request
from modelport.lifecycle.change import promote
from modelport.recipes import stored
from modelport.recipes.find import find_recipes, importable
from modelport.recipes.recipe import Options, as_rows
from modelport.repository import manifest as manifests
from modelport.repository.layout import DEFAULT_REPOSITORY
from modelport.server import EmbeddedServer, failures
from modelport.verify import evidence as evidences
from modelport.verify.compare import Comparison, compare
from modelport.verify.tolerance import Tolerance

RECIPES = Path("export")
REPORT = Path("build/demo.json")
BATCH_ROWS = 32
SINGLES = 50
WARM_UP = 5
TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class DemoRow:
    """What one model answered over one protocol.

    Attributes:
        model: Model name.
        framework: What the source model runs in.
        format: Artefact format.
        version: The version that answered.
        protocol: `HTTP` or `gRPC`.
        samples: Real samples that were sent, in batches; some of them once more alone.
        metric: Name of the task metric.
        source_value: Metric of the source model's answers to these samples.
        served_value: Metric of the served answers.
        tensor: The output that came nearest to its tolerance.
        max_abs_error: Largest difference of a served answer from the source's, in that output.
        tolerance: The largest allowed.
        p50_latency_ms: Median time of a request with one sample, as the client sees it.
        ok: Every output of every answer is within its tolerance.
    """

    model: str
    framework: str
    format: str
    version: int
    protocol: str
    samples: int
    metric: str
    source_value: float
    served_value: float
    tensor: str
    max_abs_error: float
    tolerance: float
    p50_latency_ms: float
    ok: bool


def demo(
    *,
    recipes: str | os.PathLike[str] = RECIPES,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
    report_file: str | os.PathLike[str] = REPORT,
    only: Sequence[str] = (),
    options: Options | None = None,
    line: Callable[[str], None] = lambda _: None,
) -> list[DemoRow]:
    """Build, serve and check the sample models.

    Args:
        recipes: Folder with the recipes; every script in it that defines `RECIPE` is one.
        repository: Folder of the model repository. A version that the same recipe built before is used as it is.
        report_file: JSON file for the rows.
        only: Names of recipes (without `.py`) to use; all when empty.
        options: How to build; `options.report` is told each step.
        line: Called once for each model that is ready.

    Returns:
        Two rows for each model, HTTP and gRPC, also where an answer is not within its tolerance.

    Raises:
        UsageError: There are no such recipes.
        DataError: A recipe's data is out of reach.
        ServerError: The server does not start, or a model does not load.
        ClientError: A request got no answer.
    """
    options = options or Options()
    root = Path(repository)
    versions, parts = _built(Path(recipes), root, only, options, line)
    options.report("starting the server")
    with EmbeddedServer(root, http_port=0, grpc_port=0, metrics_port=0, models=[*parts, *versions]) as server:
        _require_loaded(server, [*parts, *versions])
        found = []
        for model, version in versions.items():
            for protocol, url in (("HTTP", server.http_url), ("gRPC", server.grpc_url)):
                options.report(f"{model}: asking over {protocol}")
                with Client(url, timeout_s=TIMEOUT_S) as client:
                    found.append(_row(client, root, model, version, protocol))
    write_report(Path(report_file), found)
    return found


COLUMNS = (
    *("model", "source", "format", "version", "protocol", "samples", "metric"),
    *("source's", "served", "max error", "allowed", "p50 ms", "ok"),
)


def cells(row: DemoRow) -> tuple[object, ...]:
    """A row of the table, in the order of `COLUMNS`."""
    numbers = (row.source_value, row.served_value, row.max_abs_error, row.tolerance, row.p50_latency_ms)
    head = (row.model, row.framework, row.format, row.version, row.protocol, row.samples, row.metric)
    return (*head, *numbers, "yes" if row.ok else "NO")


def require_ok(found: Sequence[DemoRow]) -> None:
    """Raise when an answer was not within its tolerance.

    Raises:
        VerificationError: Naming the models.
    """
    bad = [f"{row.model} over {row.protocol}" for row in found if not row.ok]
    if bad:
        raise VerificationError(
            f"served answers differ from the source's: {', '.join(bad)}",
            why="the artefact in the server computes something else than the trained model",
            fix="look at the rows above; 'modelport verify MODEL' runs the artefact without a server",
        )


def write_report(path: Path, found: Sequence[DemoRow]) -> None:
    """Write the rows as a JSON list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps([dataclasses.asdict(row) for row in found], indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _built(
    folder: Path, repository: Path, only: Sequence[str], options: Options, line: Callable[[str], None]
) -> tuple[dict[str, int], list[str]]:
    """Versions of the models that callers use, and the names of the parts of ensembles; builds what is missing."""
    options.report("reading the recipes")
    versions: dict[str, int] = {}
    parts: list[str] = []
    for path, recipe in find_recipes(folder, only).items():
        started = time.monotonic()
        have, how = current_versions(recipe, path, repository=repository, options=options), "is up to date"
        if have is None:
            with importable(folder):
                made = build(recipe, path, repository=repository, options=options)
            for one in made:
                if not one.exported.serving:
                    promote(
                        one.exported.model,
                        one.exported.version,
                        repository=repository,
                        override="trained on a sliver of the data, to try the recipe" if options.quick else None,
                        report=options.report,
                    )
            have = {one.exported.model: one.exported.version for one in made}
            how = f"built in {time.monotonic() - started:.0f} s"
        versions |= {name: have[name] for name in recipe.models}
        parts += recipe.parts
        for name in recipe.models:
            line(f"{name} version {have[name]} {how}")
    return versions, parts


def _row(client: Client, repository: Path, model: str, version: int, protocol: str) -> DemoRow:
    """Send the samples in batches, then some alone, and compare."""
    folder = repository / model / str(version)
    samples = stored.load(repository, model, version)
    if samples is None:
        raise DataError(
            f"{model!r} has no stored evaluation", why="it was removed or damaged", fix="run the demo again"
        )
    limits = evidences.read(folder)[0].tolerances

    def ask(index: slice) -> Arrays:
        return client.infer(model, version=version, inputs=request(samples.inputs, index, padded=samples.padded))

    count = rows(samples.inputs)
    batches = [ask(slice(start, min(start + BATCH_ROWS, count))) for start in range(0, count, BATCH_ROWS)]
    served = {name: np.concatenate([batch[name] for batch in batches]) for name in samples.answers}
    singles, times_ms = _singles(ask, min(SINGLES, count))
    comparisons = [
        *compare(samples.answers, served, limits, batched=True).values(),
        *compare(as_rows(samples.answers, slice(0, min(SINGLES, count))), singles, limits, batched=True).values(),
    ]
    worst = max(comparisons, key=lambda c: _badness(c, limits))
    metric = samples.metrics[0]
    return DemoRow(
        model=model,
        framework=samples.framework,
        format=manifests.read(folder).format,
        version=version,
        protocol=protocol,
        samples=count,
        metric=metric,
        source_value=metrics.score(metric, samples.answers, samples.truth),
        served_value=metrics.score(metric, served, samples.truth),
        tensor=worst.tensor,
        max_abs_error=worst.max_abs_error,
        tolerance=worst.allowed,
        p50_latency_ms=statistics.median(times_ms),
        ok=all(c.ok for c in comparisons),
    )


def _singles(ask: Callable[[slice], Arrays], count: int) -> tuple[Arrays, list[float]]:
    """Answers to the first samples, each asked alone, and the time of each request."""
    for _ in range(WARM_UP):
        ask(slice(0, 1))
    answers, times_ms = [], []
    for row in range(count):
        started = time.perf_counter()
        answers.append(ask(slice(row, row + 1)))
        times_ms.append(1000 * (time.perf_counter() - started))
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}, times_ms


def _badness(comparison: Comparison, limits: Mapping[str, Tolerance]) -> tuple[bool, bool, float]:
    share = comparison.max_abs_error / comparison.allowed if comparison.allowed else comparison.max_abs_error
    return not comparison.ok, limits[comparison.tensor].kind != "exact", share


def _require_loaded(server: EmbeddedServer, models: Sequence[str]) -> None:
    for model in models:
        if model in server.failed:
            raise failures.not_loaded(model, f"{server.failed[model]} (the whole log is {server.log})")
