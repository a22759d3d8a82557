"""`promote` and `rollback`: parsing, and what is printed."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from modelport.cli.app import Json, Repository, app, progress, version_number
from modelport.cli.switched import show_switch
from modelport.errors import UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY, parse_reference

Reference = Annotated[str, typer.Argument(help="NAME, or NAME/VERSION.", metavar="NAME")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds that one loading may take.")]


@app.command("promote")
def promote_command(
    reference: Reference,
    version: Annotated[
        Optional[int],  # noqa: UP045
        typer.Argument(parser=version_number, help="Left out: the newest that never served."),
    ] = None,
    unload_old: Annotated[
        bool, typer.Option("--unload-old", help="Free the memory of the version before; going back then takes longer.")
    ] = False,
    override: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Why it may serve whatever the model's gates say; the reason is kept with the version."),
    ] = None,
    timeout_s: Timeout = 300.0,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Let a version serve: tried beside the serving one, compared with its evidence, switched, and proved.

    Whatever fails, the version before serves on. Without a running server, a temporary one is used for the proof. Where
    the model has gates (`modelport gate`), the version has to pass them.

    Example: `modelport promote digits_cnn`
    """
    from modelport.lifecycle.change import promote

    model, version = _named(reference, version)
    with progress(quiet=json) as report:
        done = promote(
            model,
            version,
            repository=repository,
            unload_old=unload_old,
            override=override,
            timeout_s=timeout_s,
            report=report,
        )
    show_switch(done, json=json)


@app.command("rollback")
def rollback_command(
    reference: Reference,
    version: Annotated[
        Optional[int],  # noqa: UP045
        typer.Argument(parser=version_number, help="Left out: the one that served before."),
    ] = None,
    timeout_s: Timeout = 300.0,
    repository: Repository = DEFAULT_REPOSITORY,
    json: Json = False,
) -> None:
    """Let the version serve again that served before, or the one that is named, and prove it.

    Example: `modelport rollback digits_cnn`
    """
    from modelport.lifecycle.change import rollback

    model, version = _named(reference, version)
    with progress(quiet=json) as report:
        done = rollback(model, version, repository=repository, timeout_s=timeout_s, report=report)
    show_switch(done, json=json)


def _named(reference: str, version: int | None) -> tuple[str, int | None]:
    """The model and the version, which may stand in one word or in two."""
    model, within = parse_reference(reference)
    if within is not None and version is not None:
        raise UsageError(
            f"{reference} {version}: which version?",
            why=f"{reference} names a version already",
            fix=f"write {reference}, or {model} {version}",
        )
    return model, version if within is None else within
