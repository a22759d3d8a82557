"""The one list of what is checked, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from modelport.repository.doctor import (
    accelerators,
    config_file,
    ensembles,
    files,
    names,
    onnx_files,
    published,
    scheduling,
    state,
    tensors,
    torchscript_files,
    versions,
)
from modelport.repository.doctor.context import Context
from modelport.repository.doctor.finding import Finding, Rule
from modelport.repository.layout import CONFIG_FILE


@dataclass(frozen=True, kw_only=True)
class Area:
    """A group of rules with their check.

    Attributes:
        title: What the group is about.
        check: Gives what breaks the rules.
        rules: The rules.
    """

    title: str
    check: Callable[[Context], Iterator[Finding]]
    rules: tuple[Rule, ...]


AREAS: tuple[Area, ...] = (
    Area(title="The repository and names", check=names.check, rules=names.RULES),
    Area(title="config.pbtxt and the backend", check=config_file.check, rules=config_file.RULES),
    Area(title="Version folders and the version policy", check=versions.check, rules=versions.RULES),
    Area(title="Inputs and outputs", check=tensors.check, rules=tensors.RULES),
    Area(title="Instances, batches, queues, cache, warm-up", check=scheduling.check, rules=scheduling.RULES),
    Area(title="Execution accelerators", check=accelerators.check, rules=accelerators.RULES),
    Area(title="Files", check=files.check, rules=files.RULES),
    Area(title="ONNX files", check=onnx_files.check, rules=onnx_files.RULES),
    Area(title="TorchScript files", check=torchscript_files.check, rules=torchscript_files.RULES),
    Area(title="Ensembles", check=ensembles.check, rules=ensembles.RULES),
    Area(title="Manifests and the record", check=published.check, rules=published.RULES),
    Area(title="The state folder", check=state.check, rules=state.RULES),
)
RULES: dict[str, Rule] = {rule.id: rule for area in AREAS for rule in area.rules}


REPAIRED_AREAS = tuple(area for area in AREAS if any(rule.repair for rule in area.rules))


def examine(context: Context, areas: Sequence[Area] = AREAS) -> list[Finding]:
    """Everything that is found: the repository first, then model after model, by file and line."""
    found = [finding for area in areas for finding in area.check(context)]
    found = [replace(f, fixable=False) if f.fixable and _elsewhere(f, context) else f for f in found]
    return sorted(found, key=lambda f: (f.model, str(f.path), f.line or 0))


def _elsewhere(finding: Finding, context: Context) -> bool:
    """Whether a repair would change what lies behind a link, or put a file in the link's place."""
    folder = context.repository / finding.model
    edited = RULES[finding.rule].repair == "edit"
    return bool(finding.model) and (folder.is_symlink() or (edited and (folder / CONFIG_FILE).is_symlink()))
