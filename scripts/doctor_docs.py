"""Writes docs/doctor.md from the rules themselves (`make docs`); a test compares the file with what this gives."""

from __future__ import annotations

from pathlib import Path

from modelport.repository.doctor.finding import Rule
from modelport.repository.doctor.registry import AREAS
from modelport.repository.doctor.targets import DEFAULT_TARGET, TARGETS

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "doctor.md"
HEADER = """\
# What `modelport doctor` checks

Written by `make docs` from the rules in `src/modelport/repository/doctor/`; do not edit.

`modelport doctor` reads the files of a model repository: one that modelport keeps, or any other Triton repository with
handwritten configurations, other backends, no manifests. It starts no server, runs no code of the repository, and reads
of model files only what is around the weights (a manifest's checksums aside, which need every byte). It changes nothing
unless it is told to.

    modelport doctor                              # model_repository/, against the container {default}
    modelport doctor -r /models --target 24.10    # another repository, another container
    modelport doctor net other --json             # two models, for a script
    modelport doctor --fix                        # repair what is safe, and look again

**Severity.** `error`: Triton refuses the model, answers wrongly, or dies. `warning`: it works today and goes wrong
later, or elsewhere. `note`: worth knowing. What concerns a version that the version policy does not select is a warning
where it would be an error for one that is loaded.

**Exit code.** 0: no errors and no warnings. 1: warnings. 2: errors. (A command that could not look at all ends with the
code of its error, such as 30 for a repository that is not there, and 2 for an option that cannot be right.)

**Repairs.** `--fix` corrects a `config.pbtxt` with a small change of its text, so that comments and layout stay; the
result is read again and used only when nothing else changed. What does not belong is moved. Nothing is deleted: old
configurations and what was moved are under `<repository>.state/set-aside/<time>/`, at the path that they had. What
somebody works with stays: folders of version control, what a configuration names, what lies behind a link; so does a
version policy that follows the folders, in a model that modelport does not keep. A running server sees a change with
its next load of the model. Do not repair while somebody copies files into the repository. The one thing that is removed
is what killed commands of modelport left behind in the state folder.

**Targets.** What a container is checked for:

{targets}

The versions of ONNX Runtime are those of Triton's build files for 24.10 and 26.08; what they take was measured with
ONNX Runtime's own packages. The embedded server is of release 2.51.0, as the container 24.10, with other versions of
ONNX Runtime and PyTorch: those that are installed.
"""


def page() -> str:
    """The whole page."""
    parts = [HEADER.format(default=DEFAULT_TARGET, targets=targets())]
    for area in AREAS:
        parts.append(f"## {area.title}\n")
        parts += [section(rule) for rule in area.rules]
    return "\n".join(parts)


def targets() -> str:
    """A table of the containers."""
    lines = ["| `--target` | Triton | ONNX Runtime | operator set | IR version |", "|---|---|---|---|---|"]
    for t in TARGETS:
        lines.append(f"| {t.name} | {t.triton} | {t.onnxruntime} | up to {t.max_opsets['']} | up to {t.max_ir} |")
    return "\n".join(lines)


def section(rule: Rule) -> str:
    """One rule."""
    repair = {
        "": "",
        "edit": " `--fix` corrects the file.",
        "move": " `--fix` moves it to the set-aside folder.",
        "clean": " `--fix` cleans it up.",
    }[rule.repair]
    return (
        f"### `{rule.id}`\n\n**{rule.severity}.** {sentence(rule.title)}\n\n"
        f"- Why: {sentence(rule.why)}\n- Do: {sentence(rule.fix)}{repair}\n"
    )


def sentence(text: str) -> str:
    """With a full stop."""
    return text if text.endswith((".", "}", "`")) else f"{text}."


if __name__ == "__main__":
    DOCUMENT.write_text(page(), encoding="utf-8")
