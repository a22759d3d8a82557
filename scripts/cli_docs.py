"""Writes docs/cli.md from the commands themselves (`make docs`); a test compares the file with what this gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer.main

from modelport.cli import app
from modelport.errors import UNEXPECTED_EXIT_CODE, ModelportError

TARGET = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
HEADER = """\
# The `modelport` command

Written by `make docs` from the commands' own help; do not edit. `modelport COMMAND --help` shows the same.
Where a variable of the environment is named, it takes the option's place when the option is not given.
"""


def page() -> str:
    """The whole page."""
    command: Any = typer.main.get_command(app)
    return "\n".join([HEADER, *(section(name, each) for name, each in leaves(command).items()), exit_codes()])


def leaves(group: Any, before: str = "") -> dict[str, Any]:
    """The commands by their words, such as `list` and `keys list`."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        words = f"{before}{name}"
        found |= leaves(command, f"{words} ") if hasattr(command, "commands") else {words: command}
    return found


def section(name: str, command: Any) -> str:
    """One command: what it does, its example, its arguments and options."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join(["modelport", name, *sorted([*map(placed, arguments), "[OPTIONS]"], key=behind)])
    lines = [f"## `{usage}`", "", command.help.strip(), "", "| argument or option | meaning |", "|---|---|"]
    lines += [f"| {label(p)} | {meaning(p)} |" for p in [*arguments, *options]]
    return "\n".join([*lines, ""])


def label(parameter: Any) -> str:
    """`SOURCE`, or `--name`, `-n`."""
    words = [word(parameter)] if parameter.param_type_name == "argument" else parameter.opts
    return ", ".join(f"`{word}`" for word in words)


def placed(argument: Any) -> str:
    """`SOURCE`, or `[VERSION]` where it may be left out."""
    return word(argument) if argument.required or word(argument).startswith("[") else f"[{word(argument)}]"


def behind(words: str) -> bool:
    """Whether it stands behind the options."""
    return words.startswith("[--")


def word(argument: Any) -> str:
    """What the command's help calls it."""
    return str(argument.metavar or argument.name.upper())


def meaning(parameter: Any) -> str:
    """The help text, the variable that takes its place, and what holds without either."""
    text = (parameter.help or "").replace("|", "\\|")
    if parameter.envvar:
        text += f" Variable: `{parameter.envvar}`."
    if parameter.required:
        return text if parameter.param_type_name == "argument" else f"{text} Required."
    plain = isinstance(parameter.default, str | int | float | Path) and not isinstance(parameter.default, bool)
    return f"{text} Default: `{parameter.default}`." if plain else text


def exit_codes() -> str:
    """The table of errors and exit codes, from the error tree."""
    lines = ["## Exit codes", "", "| code | error | meaning |", "|---|---|---|", "| 0 | | done |"]
    rows = [(kind.exit_code, kind.__name__, first_line(kind)) for kind in tree(ModelportError)]
    rows.append((UNEXPECTED_EXIT_CODE, "", "an unexpected error: a defect of modelport, please report it"))
    rows.append((1, "", "`modelport doctor`, `modelport upgrade-check`: there are warnings"))
    rows.append((2, "", "`modelport doctor`, `modelport upgrade-check`: there are errors"))
    rows.append((130, "", "stopped by Ctrl-C"))
    return "\n".join([*lines, *(f"| {code} | {name} | {text} |" for code, name, text in sorted(rows))]) + "\n"


def tree(kind: type[ModelportError]) -> list[type[ModelportError]]:
    """The error and all below it that the error tree defines."""
    below = [leaf for sub in kind.__subclasses__() for leaf in tree(sub)]
    return [kind, *below] if kind.__module__ == "modelport.errors" else below


def first_line(kind: type[ModelportError]) -> str:
    """The first line of its docstring, without the full stop."""
    return (kind.__doc__ or "").strip().splitlines()[0].rstrip(".")


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
