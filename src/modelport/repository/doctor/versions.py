"""Version folders and the policy: which of them Triton loads, and which it takes for versions against all intent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from modelport.repository import record
from modelport.repository.doctor.backends import READS_ONE_FILE
from modelport.repository.doctor.context import Context
from modelport.repository.doctor.finding import Finding, Rule, Severity
from modelport.repository.doctor.model import OWN_FOLDERS, Model, loaded, proper

_NUMBER = re.compile(r"\s*([+-]?[0-9]+)")  # what std::stoll reads
_INT64 = 2**63

VERSION_OVERFLOW = Rule(
    id="version-overflow",
    severity="error",
    title="A folder's name begins with a number of more than 64 bits",
    why="loading the model ends the whole server (uncaught std::out_of_range), whatever the policy says",
    fix="rename or remove the folder",
    repair="move",
)
VERSION_PREFIX = Rule(
    id="version-prefix",
    severity="error",
    title="A folder's name begins with a version number and goes on, such as `3.tmp`, `3-old` or `+3`",
    why="Triton counts it as that version and reads the folder with the plain number: with the policy `latest` or "
    "`all` the model does not load any more, because not all of its versions do",
    fix="give it a name that begins with a letter, outside the model's folder",
    repair="move",
)
VERSION_NEGATIVE = Rule(
    id="version-negative",
    severity="error",
    title="A folder's name is a negative number",
    why="-1 is Triton's word for 'any version'; the version can never be loaded, and blocks the others",
    fix="rename or remove the folder",
    repair="move",
)
VERSION_ZERO = Rule(
    id="version-leading-zero",
    severity="warning",
    title="A version folder's name has a leading zero, such as `003`",
    why="Triton ignores the folder, with a warning in its log",
    fix="rename it to the number without zeros, when that is free",
)
VERSION_RANGE = Rule(
    id="version-range",
    severity="warning",
    title="A version is 0 or above 2147483647",
    why="Triton loads it, but clients and tools that keep versions in 31 bits, modelport among them, cannot name it",
    fix="rename it to a number from 1 to 2147483647",
)
VERSION_WORD = Rule(
    id="version-word",
    severity="warning",
    title="A folder in a model's folder is no version",
    why="Triton ignores it with a warning at each load, and watches its files: a change in it loads every version anew",
    fix="keep it outside the repository",
    repair="move",
)
POLICY_MISSING = Rule(
    id="policy-missing",
    severity="warning",
    title="A config.pbtxt has no version_policy (a note for a model that modelport does not keep)",
    why="Triton takes the highest version that is there, so that a folder serves from the moment that it is copied in",
    fix="name the versions: version_policy { specific { versions: [ ... ] } }",
    repair="edit",
)
POLICY_FLOATING = Rule(
    id="policy-floating",
    severity="warning",
    title="The version_policy is `latest` or `all` (a note for a model that modelport does not keep)",
    why="a version folder serves from the moment that it is copied in, checked or not, complete or not",
    fix="name the versions: version_policy { specific { versions: [ ... ] } }",
    repair="edit",
)
POLICY_ABSENT = Rule(
    id="policy-absent-version",
    severity="error",
    title="The version_policy names a version that has no folder",
    why="Triton only logs it: the load answers 200, and the version is not there",
    fix="restore the version's folder, or take its number out of the policy",
    repair="edit",
)
VERSIONS_NONE = Rule(
    id="versions-none",
    severity="warning",
    title="A model has no version",
    why="there is nothing to serve; Triton refuses the model",
    fix="export it, or build it; an ensemble needs an empty folder `1`",
)
VERSIONS_UNSELECTED = Rule(
    id="versions-unselected",
    severity="warning",
    title="None of a model's versions is named by its version_policy",
    why="all of them are inert: Triton refuses the model, as 'at least one version must be available'",
    fix="promote one of them",
)
RULES = (
    VERSION_OVERFLOW,
    VERSION_PREFIX,
    VERSION_NEGATIVE,
    VERSION_ZERO,
    VERSION_RANGE,
    VERSION_WORD,
    POLICY_MISSING,
    POLICY_FLOATING,
    POLICY_ABSENT,
    VERSIONS_NONE,
    VERSIONS_UNSELECTED,
)


def check(context: Context) -> Iterator[Finding]:
    """The folders of every model, then its policy."""
    for model in context.models:
        for path in model.entries:
            if path.is_dir() and path.name not in OWN_FOLDERS and proper(path.name) is None:
                yield _folder(model, path)
        yield from _policy(model)


def _folder(model: Model, path: Path) -> Finding:
    where = model.at_path(path)
    name = f"the folder {path.name!r}"
    value = _value(path.name)
    if value is None:
        used = model.backend not in READS_ONE_FILE or model.mentions(path.name)  # such as code, or a tokenizer
        return VERSION_WORD.found(f"{name} is no version", where, severity="note" if used else None, fixable=not used)
    if path.name.startswith("0") and len(path.name) > 1:
        return VERSION_ZERO.found(f"{name} is ignored", where)
    if not -_INT64 <= value < _INT64:
        return VERSION_OVERFLOW.found(f"{name} begins with a number that is too large", where)
    if value < 0:
        return VERSION_NEGATIVE.found(f"{name} counts as version {value}", where, severity=_harm(model, value))
    if path.name != str(value):
        return VERSION_PREFIX.found(f"{name} counts as version {value}", where, severity=_harm(model, value))
    return VERSION_RANGE.found(f"{name} is version {value}", where)


def _value(name: str) -> int | None:
    """The number that Triton reads out of a folder's name; None where it reads none."""
    number = _NUMBER.match(name)
    return int(number[1]) if number else None


def _harm(model: Model, number: int) -> Severity:
    """An error where Triton would load that number now; a warning where the policy keeps it out of the way."""
    if number in model.versions:
        return "warning"
    return "error" if number in loaded(model.config, [*model.versions, number]) else "warning"


def _unfixed(found: Finding, model: Model) -> Finding:
    """A note where modelport does not keep the model: its owner may well mean what is copied in to serve."""
    ours = model.published or record.MARK in (model.text or "")
    return found if ours else replace(found, severity="note", fixable=False)


def _policy(model: Model) -> Iterator[Finding]:
    plain = any(path.name == str(_value(path.name)) for path in model.entries if path.is_dir())  # 0 among them
    if not model.versions and not plain:
        yield VERSIONS_NONE.found("it has no version folder", model.at_path(model.folder))
    if model.config is None:
        return
    policy, where = model.config.version_policy, model.at("version_policy")
    now = ", ".join(map(str, model.selected))
    if not model.config.HasField("version_policy"):
        what = f"no policy; Triton would load {now}" if now else "no policy"
        yield _unfixed(POLICY_MISSING.found(what, where, fixable=bool(now)), model)
    elif not policy.HasField("specific"):
        kind = "all" if policy.HasField("all") else "latest"
        what = f"the policy is {kind!r}; today that is {now}" if now else f"the policy is {kind!r}"
        yield _unfixed(POLICY_FLOATING.found(what, where, fixable=bool(now)), model)
        if model.versions and not now:
            what = "the policy is 'latest' without num_versions, which selects none"
            yield VERSIONS_UNSELECTED.found(what, where, fix="name the versions in the policy")
    elif model.versions:
        absent = sorted(set(policy.specific.versions) - set(model.versions))
        if absent:
            yield POLICY_ABSENT.found(
                f"version {', '.join(map(str, absent))} has no folder; there are {', '.join(map(str, model.versions))}",
                where,
                fixable=bool(model.selected),
            )
        if not model.selected:
            yield VERSIONS_UNSELECTED.found(f"the policy names none of {', '.join(map(str, model.versions))}", where)
