"""The documents describe what is there: the command reference, the examples in the help, the links."""

from __future__ import annotations

import importlib.util
import re
import shlex

import pytest
import typer.main

from modelport.cli import app


def leaves(group, before=""):
    """The commands by their words, such as `list` and `keys list`."""
    found = {}
    for name, command in group.commands.items():
        words = f"{before}{name}"
        found |= leaves(command, f"{words} ") if hasattr(command, "commands") else {words: command}
    return found


COMMANDS = leaves(typer.main.get_command(app))
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "export/*.md", "tests/data/*.md")


@pytest.fixture(scope="module")
def generator(root):
    """scripts/cli_docs.py as a module."""
    spec = importlib.util.spec_from_file_location("cli_docs", root / "scripts" / "cli_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_reference_is_what_the_commands_say(generator, root):
    assert (root / "docs" / "cli.md").read_text() == generator.page(), "run `make docs` and commit docs/cli.md"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_is_described_and_in_the_reference(name, root):
    reference = (root / "docs" / "cli.md").read_text()
    section = reference.split(f"## `modelport {name} ")[1].split("\n## ")[0]
    for parameter in COMMANDS[name].params:
        assert parameter.help, f"{name} {parameter.opts}: no help text"
        shown = (
            parameter.opts if parameter.param_type_name == "option" else [parameter.metavar or parameter.name.upper()]
        )
        for word in shown:
            assert f"`{word}`" in section


def example_of(name):
    found = re.search(r"Example: `(modelport [^`]+)`", COMMANDS[name].help or "")
    return found and shlex.split(found[1])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_an_example_with_options_that_exist(name):
    words = example_of(name)
    assert words and words[: 1 + len(name.split())] == ["modelport", *name.split()]
    known = {word for parameter in COMMANDS[name].params for word in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def pages(root):
    return [path for pattern in PAGES for path in sorted(root.glob(pattern))]


def broken_links(text, folder):
    """Targets of relative links in Markdown that do not exist."""
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text)
    return [t for t in targets if "://" not in t and not t.startswith("mailto:") and not (folder / t).exists()]


def test_links_between_pages_lead_somewhere(root):
    broken = {str(p.relative_to(root)): broken_links(p.read_text(), p.parent) for p in pages(root)}
    assert {page: links for page, links in broken.items() if links} == {}


def test_a_link_that_leads_nowhere_is_found(root):
    assert broken_links("see [this](docs/no-such-page.md#part)", root) == ["docs/no-such-page.md"]


def named_files(text):
    """Files of the project that a page names in backticks, but for the invented `my_model.py` and `source_x.py`."""
    names = re.findall(r"`((?:src|scripts|tests|docs|export|clients|benchmarks)/[\w./-]+\.(?:py|sh|md|json))`", text)
    return [name for name in names if not re.search(r"/my_\w+\.py$|_x\.py$", name)]


def test_files_that_pages_name_exist(root):
    missing = {
        str(p.relative_to(root)): [f for f in named_files(p.read_text()) if not (root / f).exists()]
        for p in pages(root)
    }
    assert {page: files for page, files in missing.items() if files} == {}


def test_make_targets_that_pages_name_exist(root):
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    for page in pages(root):
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE))
        assert named <= targets, f"{page.relative_to(root)}: {named - targets}"


def test_every_make_target_says_what_it_does(root):
    makefile = (root / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    described = set(re.findall(r"^([a-z-]+):.*## \w", makefile, re.MULTILINE))
    assert set(phony.split()) == described
