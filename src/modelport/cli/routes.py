"""`route`: parsing, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app, progress
from modelport.errors import UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY


@app.command("route")
def route_command(
    model: Annotated[Optional[str], typer.Argument(help="Model name. Left out: all models with a route.")] = None,  # noqa: UP045
    shares: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            help="TARGET=PERCENT, such as `stable=90 canary=10`; together 100. A target is a loaded version or an "
            "alias. With `--auto`: the canary alone, such as `3`. Left out: show the route."
        ),
    ] = None,
    sticky: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="`tenant` or `header:NAME`: the same one always leads to the same version; `none`."),
    ] = None,
    shadow: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A version or an alias that gets a copy of each call and answers none of them; `none`."),
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Take the route away: calls go to the serving version.")
    ] = False,
    auto: Annotated[
        bool, typer.Option("--auto", help="Bring in a canary step by step on evidence, and promote it or take it back.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Show the steps of `--auto` so far, with evidence.")
    ] = False,
    steps: Annotated[str, typer.Option(help="Shares of the canary in percent; 100 promotes it.")] = "5,10,25,50,100",
    hold: Annotated[str, typer.Option(help="How long a step lasts at least, such as `60s` or `10min`.")] = "60s",
    min_requests: Annotated[int, typer.Option(help="Requests that the canary gets in a step at least.")] = 200,
    max_error_rise: Annotated[str, typer.Option(help="How much its error rate may be above stable's.")] = "1%",
    max_latency_ratio: Annotated[float, typer.Option(help="How many times as long as stable it may take.")] = 1.5,
    max_disagreement: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="The share of replayed requests that it may answer otherwise. Left out: 10% where the answers are "
            "classes; other answers are shown, not judged."
        ),
    ] = None,
    give_up: Annotated[str, typer.Option(help="How long a step may go without a decision.")] = "1h",
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Share out the calls through the gateway that name no version, among the versions that are loaded.

    Calls that name a version or an alias always get it. `--auto` loads the newest candidate, or compares the two
    versions of the route that is set: errors, latency, and answers to golden and captured requests, at each step. It
    runs until that is decided; Ctrl-C leaves the route as it is, and the same command takes it up again.

    Example: `modelport route digits_cnn stable=90 canary=10 --sticky tenant`
    """
    _check(model, shares, sticky, shadow, clear=clear, auto=auto, history=history)
    from modelport.commands import route as verbs

    if model is None:
        _print_all(verbs.routes(repository), json=json)
    elif history:
        _print_history(verbs.history(model, repository=repository), json=json)
    elif auto:
        limits = verbs.limits(
            steps=steps,
            hold=hold,
            min_requests=min_requests,
            max_error_rise=max_error_rise,
            max_latency_ratio=max_latency_ratio,
            max_disagreement=max_disagreement,
            give_up=give_up,
        )
        _auto(model, next(iter(shares or ()), None), limits, repository, json=json)
    elif clear:
        _print_one(verbs.clear(model, repository=repository), json=json)
    elif shares or sticky is not None or shadow is not None:
        routed = verbs.route(model, shares or (), sticky=sticky, shadow=shadow, repository=repository)
        _print_one(routed, json=json)
    else:
        _print_one(verbs.show(model, repository=repository), json=json)


def _check(model: str | None, shares: list[str] | None, sticky: str | None, shadow: str | None, **modes: bool) -> None:
    """Refuse what cannot be meant; all of it is named."""
    asked = [f"--{name}" for name, given in modes.items() if given]
    settings = [name for name, given in (("--sticky", sticky), ("--shadow", shadow)) if given is not None]
    rules = {
        f"{' and '.join(asked)} are different things": len(asked) > 1,
        "a model is missing": model is None and bool(asked or settings),
        f"{', '.join(settings)} belong to shares": bool(asked and settings),
        "--auto takes one canary, such as 3": modes["auto"] and (len(shares or ()) > 1 or "=" in "".join(shares or ())),
        f"{' and '.join(asked)} take no shares": bool(shares) and (modes["clear"] or modes["history"]),
    }
    wrong = [rule for rule, holds in rules.items() if holds]
    if wrong:
        fix = "ask for one thing; 'modelport route --help' shows them"
        raise UsageError(
            f"this cannot be asked of routes: {'; '.join(wrong)}", why="these options exclude each other", fix=fix
        )


def _auto(model: str, canary: str | None, limits: Any, repository: Path, *, json: bool) -> None:
    from modelport.commands.route import auto

    try:
        with progress(quiet=json) as report:
            done = auto(model, canary, within=limits, repository=repository, report=report)
    except (KeyboardInterrupt, SystemExit):
        _render.error(f"the route of {model} stays as it is; 'modelport route {model} --auto' takes it up again")
        raise
    _render.as_json(done) if json else _render.lines(f"{model}: {done.result}: {done.why}")


def _print_all(found: list[Any], *, json: bool) -> None:
    if json:
        _render.as_json(found)
    elif found:
        rows = [(one.model, one.route.words(), _goes(one)) for one in found]
        _render.table("", ("model", "route", "goes to"), rows)
    else:
        _render.ERR.print("no model has a route: unversioned calls go to the serving versions")


def _print_one(one: Any, *, json: bool) -> None:
    if json:
        _render.as_json(one)
    elif one.route.targets:
        _render.lines(
            f"route of {one.model}: {one.route.words()}", f"unversioned calls through the gateway: {_goes(one)}"
        )
    else:
        _render.lines(f"{one.model} has no route; unversioned calls: {_goes(one)}")


def _goes(one: Any) -> str:
    parts = [f"{percent:.3g} % to version {version}" for version, percent in one.versions.items()]
    parts += [f"copies to version {one.shadow}"] if one.shadow else []
    return ", ".join(parts) or "nothing is loaded"


def _print_history(entries: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        _render.as_json(entries)
        return
    for entry in entries:
        at = str(entry.get("at", "")).partition(".")[0].replace("T", " ")
        what = f"{entry.get('event')}, version {entry.get('canary')} against {entry.get('stable')}"
        share = f", {entry.get('share'):g} %" if entry.get("share") else ""
        decision = f": {entry['decision']}" if "decision" in entry else ""
        _render.lines(
            f"{at}  {what}{share}{decision}", *(f"    {part}" for part in str(entry.get("why", "")).split("; ") if part)
        )
    if not entries:
        _render.ERR.print("no canary of this model was brought in with --auto")
