"""A model's gates at its promotion: the version is asked for the evaluation data where it is on trial, and judged.

The version that serves is asked for the same rows, and both are compared row by row. Nothing has changed for callers
when a gate refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modelport.client import Client
from modelport.errors import ClientError, GateError, UsageError
from modelport.evaluate import asking, gate_data, judge, metrics, stored
from modelport.evaluate.data import EvaluationData
from modelport.evaluate.forms import Array
from modelport.evaluate.judge import Verdict
from modelport.lifecycle.plan import Present
from modelport.repository import events
from modelport.repository.gate import Gate

TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Gates:
    """What a version is to be judged by.

    Attributes:
        now: How the model stands.
        target: The version.
        largest: The most rows that it takes in a request; 0 where it has no batch axis.
        rules: The model's gates; empty where nothing is to be judged.
        data: Labelled rows; None where nothing is to be judged.
        override: Why the version may serve whatever the gates say; empty where it may not.
    """

    now: Present
    target: int
    largest: int = 0
    rules: tuple[Gate, ...] = ()
    data: EvaluationData | None = None
    override: str = ""


def gates(now: Present, target: int, *, largest: int, override: str = "") -> Gates:
    """What a version has to pass before it may serve; nothing where it serves already, or where that is overridden.

    Args:
        now: How the model stands; its lock is held.
        target: The version.
        largest: The most rows that it takes in a request; 0 where it has no batch axis.
        override: Why it may serve whatever the gates say; empty where it may not.

    Raises:
        DataError: The model has gates, and no data to judge them with.
        UsageError: A gate's metric does not exist.
    """
    if target == now.serving or not now.record.gates:
        return Gates(now=now, target=target)
    if override:
        said = "; ".join(gate.words() for gate in now.record.gates)
        _keep(now, target, "overridden", override, {"rules": said})
        return Gates(now=now, target=target, override=override)
    for gate in now.record.gates:
        metrics.known(gate.metric)
    data = gate_data.read(now.repository, now.model)
    return Gates(now=now, target=target, largest=largest, rules=now.record.gates, data=data)


def pass_through(asked: Gates, url: str, name: str, version: int) -> tuple[Verdict, ...]:
    """Judge a version by the answers that a server gives.

    Args:
        asked: What it is judged by.
        url: The server.
        name: The name under which the server knows the version.
        version: Its number.

    Returns:
        What each gate says, all of them that it passes.

    Raises:
        GateError: It does not pass, or the serving version cannot be asked.
        DataError, UsageError: The data or a metric does not fit the model.
    """
    if asked.data is None:
        return ()
    now, rules, data = asked.now, asked.rules, asked.data
    with Client(url, timeout_s=TIMEOUT_S, token="") as client:
        given = asking.answers(client, name, version, data, largest=asked.largest)
        before = _serving(client, asked, data) if now.serving is not None and _compares(rules) else None
    try:
        verdicts = judge.judge(rules, given, before, data.labels)
    except UsageError as exc:
        exc.fix = f"'modelport gate {now.model}' shows and changes its gates; {_override(now, asked.target)}"
        raise
    problems = [problem for verdict in verdicts for problem in verdict.problems]
    words = "; ".join(verdict.words() for verdict in verdicts)
    facts = {"data": data.name, "data_sha256": data.sha256, "rows": data.rows, "verdicts": list(map(asdict, verdicts))}
    _keep(now, asked.target, "refused" if problems else "passed", words, facts)
    if problems:
        raise GateError(
            f"version {asked.target} of {now.model!r} does not pass its gate: {'; '.join(problems)}",
            why=f"measured on {data.rows} rows ({data.name}){_against(now, before is not None)}, in brackets the 95 % "
            "intervals",
            fix=f"publish a better version; or {_override(now, asked.target)}",
            model=now.model,
            metric=next(verdict.gate.metric for verdict in verdicts if verdict.problems),
        )
    return verdicts


def _serving(client: Client, asked: Gates, data: EvaluationData) -> dict[str, Array]:
    now = asked.now
    try:
        return asking.answers(client, now.model, now.serving, data, largest=now.config.max_batch_size)
    except ClientError as exc:
        raise GateError(
            f"the gates of {now.model!r} cannot be judged: version {now.serving}, which serves, does not answer",
            why=f"{exc.what}: {exc.why}",
            fix=f"'modelport rollback {now.model}' lets the version before serve; {_override(now, asked.target)}",
            model=now.model,
        ) from exc


def _compares(rules: Sequence[Gate]) -> bool:
    return any(gate.max_drop is not None for gate in rules)


def _against(now: Present, paired: bool) -> str:
    return f", against version {now.serving} on the same rows" if paired else ""


def _override(now: Present, version: int) -> str:
    command = f'modelport promote {now.model}/{version} --override "reason"'
    return f"'{command}' lets it serve all the same, and that is kept"


def _keep(now: Present, version: int, result: str, words: str, facts: Mapping[str, Any]) -> None:
    """Remember a judgement with the version, and as an event."""
    entry = {"at": events.now(), "result": result, "before": now.serving, "words": words, **facts}
    stored.add(now.repository, now.model, version, stored.JUDGEMENTS, entry)
    level = {"passed": "info"}.get(result, "warning")
    happened = events.event(f"gate_{result}", words, model=now.model, version=version, level=level)
    events.append(now.repository, happened)
