"""The `modelport` application, and what the commands share: option types, progress, reading of small files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from modelport import _render
from modelport._version import __version__
from modelport.errors import UsageError
from modelport.spec import parse_version

app = typer.Typer(
    name="modelport",
    help="Trained PyTorch and Keras models in, verified and versioned NVIDIA Triton services out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

Repository = Annotated[
    Path, typer.Option("--repository", "-r", envvar="MODELPORT_REPOSITORY", help="Folder of the model repository.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
TokenFile = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads the annotation at run time, on Python 3.10 too
    typer.Option("--token-file", help="File with the bearer token (or set MODELPORT_TOKEN)."),
]
CaFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--ca-file", help="PEM file with the only authorities to trust, for https and grpcs (or set MODELPORT_CA)."
    ),
]


def version_number(text: str) -> int:
    """A version as it is typed: `003` and `+1` are none."""
    return parse_version(text)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        _render.lines(f"modelport {__version__}")
        raise typer.Exit


def progress(*, quiet: bool) -> Any:
    """A spinner with the current step on standard error; the steps as lines where that is no terminal."""
    from modelport._progress import progress as shown

    return shown(_render.ERR, quiet=quiet)


def text_lines(path: Path) -> list[str]:
    """The lines of a small UTF-8 file."""
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} cannot be read", why=str(exc), fix="give a UTF-8 text file") from exc


def token(path: Path | None) -> str | None:
    """The bearer token in a file; None without a file."""
    if path is None:
        return None
    word = " ".join(text_lines(path)).strip()
    if not word:
        raise UsageError(f"{path} is empty", why="--token-file names a file with a token in it", fix="write it there")
    return word
