"""`capture` and `replay`: parsing, and what is printed."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import CaFile, Json, Repository, TokenFile, app, token
from modelport.errors import ManifestError, UsageError
from modelport.gateway import units
from modelport.gateway.capture.patterns import is_pattern
from modelport.repository.layout import DEFAULT_REPOSITORY

if TYPE_CHECKING:
    from modelport.commands.capture import Captured, Set
    from modelport.gateway.capture.exchange import Exchange
    from modelport.gateway.capture.receiver import Counts
    from modelport.gateway.capture.replaying import Replayed

SHOWN_VALUES = 16


@app.command("capture")
def capture_command(
    model: Annotated[Optional[str], typer.Argument(help="Model name. Left out: list what is captured.")] = None,  # noqa: UP045
    sample: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Part of the requests to the gateway, such as `1%`."),
    ] = None,
    redact: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Tensor whose values are replaced, or `re:` and an expression for texts. Repeat it; `none`."),
    ] = None,
    keep: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="In how long it is deleted at the latest, such as `12h`; 7 days if never said."),
    ] = None,
    also: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Keep the request's `id`, its `parameters`, or the `tenant` too. Repeat it; `none`."),
    ] = None,
    most: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The most that is kept, the oldest goes first; 256MiB if never said."),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Capture no more; what is kept stays until it is of age.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="With --off: delete what is kept at once.")] = False,
    show: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Print the latest so many, decrypted."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Keep a sample of the requests to the gateway with their answers, for debugging and replay.

    They are redacted before they touch the disk, encrypted, and deleted after a while. Options that are left out stay
    as they are. Errors leave with their code, damaged records with 35.

    Example: `modelport capture digits_cnn --sample 1% --redact image --keep 7d`
    """
    from modelport.commands import capture as captures

    settings = (sample, redact, keep, also, most)
    _check(model, given=any(one is not None for one in settings), off=off, delete=delete, show=show)
    if model is None:
        _list(*captures.listed(repository), json=json)
    elif show is not None:
        _show(model, captures.show(model, show, repository=repository), json=json)
    elif off:
        was, kept = captures.stop(model, delete=delete, repository=repository)
        if json:
            _render.as_json({"model": model, "was_captured": was, "kept": kept, "deleted": delete})
            return
        words = "is captured no more" if was else "was not captured"
        what = f"{kept.files} files ({_render.size(kept.size_bytes)}) "
        _render.lines(f"{model} {words}; {what}{'are deleted' if delete else 'stay until they are of age'}")
    else:
        values: dict[str, Any] = units.read(
            {"--sample": (_part, sample), "--keep": (units.duration, keep), "--most": (units.size, most)}
        )
        done = captures.capture(
            model,
            part=values.get("--sample"),
            keep_s=values.get("--keep"),
            most_bytes=values.get("--most"),
            redact=_words(redact),
            also=_words(also),
            repository=repository,
        )
        _render.as_json(done) if json else _print_set(done)


@app.command("replay")
def replay_command(
    model: Annotated[str, typer.Argument(help="Model name.")],
    to: Annotated[Optional[str], typer.Option(help="A loaded version or an alias; else the serving version.")] = None,  # noqa: UP045
    since: Annotated[Optional[str], typer.Option(help="Only what was captured lately, such as `1h`.")] = None,  # noqa: UP045
    limit: Annotated[Optional[int], typer.Option(min=1, help="Only the latest so many.")] = None,  # noqa: UP045
    url: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--url", "-u", help="Another server that serves this repository; else the one that runs here."),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds for one request.")] = 30.0,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Send captured requests to a version of the running server, and compare its answers with the captured ones.

    They are the same within the version's tolerance, as its evidence says it. Leaves with 20 where an answer is
    different or nothing can be compared, with 50 where a request failed, with 35 where a record is damaged.

    Example: `modelport replay digits_cnn --to canary --since 1h`
    """
    from modelport.commands.replay import replay
    from modelport.gateway.capture.replaying import problem

    since_s: Any = units.read({"--since": (units.duration, since)}).get("--since")
    done = replay(
        model,
        to=to,
        since_s=since_s,
        limit=limit,
        url=url,
        timeout_s=timeout_s,
        token=token(token_file),
        ca_file=ca_file,
        repository=repository,
    )
    _render.as_json(done) if json else _print_replayed(done)
    wrong = problem(done)
    if wrong is not None:
        raise wrong


def _check(model: str | None, *, given: bool, off: bool, delete: bool, show: int | None) -> None:
    problems = []
    if model is None and (given or off or delete or show is not None):
        problems.append("the options are for one model, and none is named")
    if model is not None and not (given or off or show is not None):
        problems.append("nothing says what is wanted: --sample, --off or --show")
    if delete and not off:
        problems.append("--delete goes with --off")
    if given + off + (show is not None) > 1:
        problems.append("settings, --off and --show are different things")
    if problems:
        raise UsageError("these options cannot be", why="; ".join(problems), fix="see 'modelport capture --help'")


def _part(text: str) -> float:
    number = text.strip().removesuffix("%")
    try:
        value = float(number) / 100
    except ValueError:
        value = 0.0
    if not text.strip().endswith("%") or not 0 < value <= 1:
        raise ValueError(f"{text!r} is no part above 0% and up to 100%; write for example 1%")
    return value


def _words(given: list[str] | None) -> list[str] | None:
    """Each word of an option that may be repeated; names may also stand with commas between them."""
    if given is None or given == [units.NONE]:
        return None if given is None else []
    return [word for text in given for word in ([text] if is_pattern(text) else text.split(","))]


def _list(rows: list[Captured], counts: Counts, *, json: bool) -> None:
    if json:
        _render.as_json({"models": rows, "counts": counts})
        return
    if not rows:
        _render.ERR.print("nothing is captured")
        return
    _render.table(
        "",
        ("model", "part", "replaced", "kept for", "files", "size", "since"),
        [
            (
                row.model,
                f"{row.rule.part:.6g}" if row.rule else "off",
                ", ".join(row.rule.redact) or "nothing" if row.rule else "",
                _duration(row.rule.keep_s) if row.rule else "",
                row.kept.files,
                _render.size(row.kept.size_bytes),
                _time(row.kept.oldest_at) if row.kept.oldest_at else "",
            )
            for row in rows
        ],
    )
    dropped = ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.dropped.items()))
    _render.lines(f"since the start: {counts.received} received, {counts.kept} kept; dropped: {dropped or 'none'}")


def _print_set(done: Set) -> None:
    rule = done.rule
    masked = f"; in texts, what matches {', '.join(rule.patterns)}" if rule.patterns else ""
    most = _render.size(rule.most_bytes)
    left = [word for word in ("id", "parameters", "tenant") if word not in rule.also]
    _render.lines(
        f"{rule.model}: {100 * rule.part:.6g}% of the requests to the gateway are captured, with their answers",
        f"  kept as they are  {', '.join((*done.as_they_are, *rule.also)) or 'nothing'}",
        f"  replaced          {', '.join(sorted(rule.fields)) or 'no tensor'}{masked}",
        f"  never kept        {', '.join((*left, 'other headers'))}",
        f"  deleted           after {_duration(rule.keep_s)} at the latest; the oldest earlier, above {most}",
        f"  encrypted         with the key in {done.key_file}",
    )


def _show(model: str, shown: Any, *, json: bool) -> None:
    if json:
        _render.as_json({"exchanges": shown.exchanges, "damaged": [str(one) for one in shown.damaged]})
    else:
        for exchange in shown.exchanges:
            _print_exchange(exchange)
    if shown.damaged:
        raise ManifestError(
            f"{len(shown.damaged)} captured records of {model!r} are refused",
            why="; ".join(map(str, shown.damaged[:5])),
            fix="find out who writes there; '--off --delete' removes what is kept of a model",
        )


def _print_exchange(exchange: Exchange) -> None:
    version = "unknown version" if exchange.version is None else f"version {exchange.version}"
    facts = {"id": exchange.request_id, "tenant": exchange.tenant, "parameters": exchange.parameters}
    said = "".join(f", {word} {value}" for word, value in facts.items() if value)
    title = f"{_time(exchange.at)} {exchange.model} {version}, {exchange.protocol} {exchange.status}{said}"
    rows = [
        (side, name, str(array.dtype), str(list(array.shape)), exchange.marks.get(f"{side} {name}", ""), _values(array))
        for side in ("input", "output")
        for name, array in getattr(exchange, f"{side}s").items()
    ]
    _render.lines(title)
    _render.table("", ("", "tensor", "type", "shape", "", "values"), rows)


def _values(array: Any) -> str:
    words = ", ".join(f"{v:.6g}" if array.dtype.kind == "f" else str(v)[:80] for v in array.ravel()[:SHOWN_VALUES])
    return words + (", ..." if array.size > SHOWN_VALUES else "")


def _print_replayed(done: Replayed) -> None:
    _render.table(
        f"captured requests of {done.model}, answered by version {done.version}",
        ("captured of", "same", "different", "failed", "not comparable", "largest error", "allowed", "output"),
        [
            (
                "unknown" if row.captured is None else f"version {row.captured}",
                row.same,
                row.different,
                row.failed,
                row.unusable,
                row.max_abs_error if row.tensor else "",
                row.allowed if row.tensor else "",
                row.tensor,
            )
            for row in done.rows
        ],
    )
    for why, count in sorted(done.unusable.items()):
        _render.lines(f"not comparable: {count}, {why}")
    _render.lines(*(f"refused: {one}" for one in done.damaged))


def _duration(seconds: float) -> str:
    """Such as `7 days`, rounded down."""
    for size, word in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {word}"
    return f"{int(seconds)} s"


def _time(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
