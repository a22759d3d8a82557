"""The verbs of the registry, from `list` to `prune`: parsing, and what is printed."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer

from modelport import _render
from modelport.cli.app import Json, Repository, app, version_number
from modelport.repository.layout import DEFAULT_REPOSITORY

Model = Annotated[str, typer.Argument(help="Model name.")]
OPTIONAL = ("route", "aliases", "tags")  # columns that are left out where nothing is in them


@app.command("list")
def list_command(
    name: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation at run time, on Python 3.10 too
        typer.Argument(help="Part of a model's name, or a pattern such as 'digits*'. Left out: all models."),
    ] = None,
    tag: Annotated[Optional[str], typer.Option(help="Only versions with this tag.")] = None,  # noqa: UP045
    alias: Annotated[Optional[str], typer.Option(help="Only versions with this alias.")] = None,  # noqa: UP045
    state: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Only `serving`, `retired`, `candidate`, `unchecked`, `broken`, `empty` or `loaded` ones."),
    ] = None,
    framework: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Only versions that were trained with it, such as `keras`."),
    ] = None,
    metric: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Only versions that were published with such a metric, such as `'accuracy>=0.95'`."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """List the models and versions of a repository, and how each stands.

    A version is *serving* (it answers requests that name no version), *retired* (it served before), a *candidate* (it
    never served), *unchecked* (copied in, and not looked at yet), or *broken*, with the reason. *loaded* ones answer
    requests that name them. Where a route is set, it says what part of the gateway's calls a version gets.

    Example: `modelport list 'digits*' --state candidate --metric 'accuracy>=0.95'`
    """
    from modelport.commands.listing import list_models

    rows = list_models(repository, name=name, tag=tag, alias=alias, state=state, framework=framework, metric=metric)
    if json:
        _render.as_json(rows)
    elif rows:
        _print_list(rows)
    else:
        _render.ERR.print("no version is like this")


@app.command("show")
def show_command(
    model: Annotated[str, typer.Argument(help="NAME or NAME/VERSION.")],
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Show a version: its card, tensors, files and configuration.

    Example: `modelport show digits_cnn/1`
    """
    from modelport.commands.listing import show

    shown = show(model, repository=repository)
    if json:
        _render.as_json(shown)
        return
    row = shown.row
    _render.lines(f"{row.model} version {row.version}: {_state(row)}")
    facts = {
        "aliases": ", ".join(row.aliases),
        "tags": ", ".join(row.tags),
        "versions": ", ".join(map(str, shown.versions)),
        "a rollback goes to": f"version {shown.way_back}" if shown.way_back else "",
        "gates": "; ".join(shown.gates),
    }
    _render.lines(*(f"{what}: {words}" for what, words in facts.items() if words), "", shown.card)
    _print_worth(shown)
    rows = [(name, _render.size(record.size_bytes), record.sha256) for name, record in shown.manifest.files.items()]
    _render.table("files", ("file", "size", "sha256"), rows)
    _render.table("made with", ("software", "version"), list(shown.manifest.makers.items()))
    _render.lines("config.pbtxt:", "", shown.config)


@app.command("diff")
def diff_command(
    model: Model,
    before: Annotated[int, typer.Argument(parser=version_number, help="A version.")],
    after: Annotated[int, typer.Argument(parser=version_number, help="Another version.")],
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Show what changed between two versions: metrics, tensors, configuration, files, sizes, software, sources.

    Example: `modelport diff digits_cnn 1 2`
    """
    from modelport.commands.diff import diff

    found = diff(model, before, after, repository=repository)
    if json:
        _render.as_json(found)
    elif found.changes:
        columns = ("", "what", f"version {before}", f"version {after}", "difference")
        _render.table("", columns, [_change(change) for change in found.changes])
    else:
        _render.lines("nothing differs")


@app.command("tag")
def tag_command(
    reference: Annotated[str, typer.Argument(help="NAME/VERSION.", metavar="NAME/VERSION")],
    words: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Tags: a letter, then letters, digits and `_.-`. Left out: show those there are."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take these tags away.")] = False,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Add tags to a version, or take them away. `modelport list --tag` finds them.

    Example: `modelport tag digits_cnn/2 reviewed quantized`
    """
    from modelport.commands.tagging import tag

    tags = tag(reference, words or (), remove=remove, repository=repository)
    _render.as_json(tags) if json else _render.lines(f"tags of {reference}: {', '.join(tags) or 'none'}")


@app.command("alias")
def alias_command(
    model: Model,
    pointing: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="ALIAS=VERSION, such as `stable=2`. Left out: show those there are."),
    ] = None,
    remove: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--remove", help="Take this alias away. Repeat it."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Let aliases point at versions. An alias may only point at a version that is loaded.

    Example: `modelport alias digits_cnn stable=1 canary=2`
    """
    from modelport.commands.tagging import alias, parse_aliases

    aliases = alias(model, parse_aliases(pointing or ()), remove=remove or (), repository=repository)
    if json:
        _render.as_json(aliases)
    else:
        words = (f"{word} points at version {version}" for word, version in aliases.items())
        _render.lines(f"aliases of {model}: {', '.join(words) or 'none'}")
        from modelport.gateway.routes.stored import read_one

        route = read_one(repository, model)
        if {*route.targets} & {*aliases}:
            _render.lines(f"a route is set, and follows its aliases: {route.words()}")


@app.command("policy")
def policy_command(
    model: Model,
    on_drop: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="`candidate`: it waits for `modelport promote`. `promote`: it is promoted at once."),
    ] = None,
    latency_budget_ms: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="An alert tells when the slowest call of 100 takes longer at the gateway; 0: no alert."),
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Say what becomes of a version that is copied into the model's folder while `modelport serve` runs, and how fast
    the model has to be.

    What is copied in is always checked first; a version that is found broken is reported and never served.

    Example: `modelport policy digits_cnn --on-drop promote`
    """
    from modelport.commands.policy import latency_budget, policy

    now = policy(model, on_drop=on_drop, repository=repository)
    budget_ms = latency_budget(model, ms=latency_budget_ms, repository=repository)
    if json:
        _render.as_json({"on_drop": now, "latency_budget_ms": budget_ms})
        return
    meaning = "is promoted at once" if now == "promote" else "waits for 'modelport promote'"
    _render.lines(f"{model}: a version that is copied in and found good {meaning} (--on-drop {now})")
    if budget_ms is not None:
        _render.lines(f"{model}: 99 of 100 calls are to take at most {budget_ms:g} ms (--latency-budget-ms)")


@app.command("prune")
def prune_command(
    model: Model,
    keep: Annotated[int, typer.Option(help="How many of the versions stay that nothing else keeps, the newest.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and touch nothing.")] = False,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Delete old versions, never one that is needed.

    These stay whatever `--keep` says: the version that serves, every loaded one, every one with an alias or that the
    route names, the one that a rollback goes to, and an unchecked one, which may still be being copied in. Of all
    others, candidates among them, the `--keep` highest numbers stay; broken ones do not count, and stay where they are
    newer than all that do. No number is ever given again.

    Example: `modelport prune digits_cnn --keep 3 --dry-run`
    """
    from modelport.commands.prune import prune

    done = prune(model, keep=keep, dry_run=dry_run, repository=repository)
    if json:
        _render.as_json(done)
        return
    verb = "would be deleted" if done.dry_run else "deleted"
    rows = {v: (v, f"{verb} ({_render.size(size)})") for v, size in done.deleted.items()}
    rows.update({v: (v, f"stays: {why}") for v, why in done.kept.items()})
    _render.table("", ("version", "what becomes of it"), [rows[v] for v in sorted(rows)])
    if not done.deleted:
        _render.lines("nothing to delete")


def _print_worth(shown: Any) -> None:
    """What was measured of the version when it was served, and what the gates said of it."""
    rows = [
        (
            one["at"].partition(".")[0],
            name,
            f"{value['value']:.4g}",
            f"{value['low']:.4g} to {value['high']:.4g}",
            one["data"],
        )
        for one in shown.evaluations
        for name, value in one["scores"]["scores"].items()
    ]
    if rows:
        _render.table("as served", ("time", "metric", "value", "95 % interval", "data"), rows)
    judged = [(one["at"].partition(".")[0], one["result"], one["words"]) for one in shown.judgements]
    if judged:
        _render.table("by the gates", ("time", "result", ""), judged)


def _print_list(rows: list[Any]) -> None:
    columns = {
        "model": [row.model for row in rows],
        "version": ["" if row.version is None else row.version for row in rows],
        "state": [_state(row) for row in rows],
        "route": [f"{row.route_percent:g} %" if row.route_percent else "" for row in rows],
        "aliases": [", ".join(row.aliases) for row in rows],
        "tags": [", ".join(row.tags) for row in rows],
        "format": [row.format for row in rows],
        "trained with": [row.framework for row in rows],
        "size": [_render.size(row.size_bytes) if row.size_bytes else "" for row in rows],
        "created": [row.created.replace("T", " ").removesuffix("+00:00") for row in rows],
        "metric": [", ".join(f"{key} {value:.4g}" for key, value in row.metrics.items()) for row in rows],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells) or name not in OPTIONAL}
    _render.table("", list(shown), list(zip(*shown.values(), strict=True)))


def _state(row: Any) -> str:
    """The state, and `loaded` where that does not go without saying."""
    words = f"{row.state}, loaded" if row.loaded and row.state != "serving" else row.state
    return f"{words}: {row.problem}" if row.problem else words


def _change(change: Any) -> tuple[str, ...]:
    """A row of the table of differences."""
    is_size = change.part == "files" or change.what == "size in bytes"

    def shown(value: Any) -> str:
        if value is None:
            return "none"
        if is_size:
            return _render.size(value)
        return f"{value:.6g}" if isinstance(value, float) else str(value)

    difference = change.difference
    if difference is None:
        words = ""
    elif is_size:
        words = f"{'-' if difference < 0 else '+'}{_render.size(abs(difference))}" if difference else "other content"
    else:
        words = f"{difference:+.4g}"
    return change.part, change.what, shown(change.before), shown(change.after), words
