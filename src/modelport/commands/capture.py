"""The verb `capture`: keep a sample of a model's requests and answers, show it, and stop."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.errors import UsageError
from modelport.gateway.capture import keeper, patterns, receiver, secret, stored
from modelport.gateway.capture.exchange import Exchange
from modelport.gateway.capture.keeper import Kept
from modelport.gateway.capture.receiver import Counts
from modelport.gateway.capture.segment import Damaged
from modelport.gateway.capture.stored import Rule
from modelport.repository import config as configs
from modelport.repository import events, switch
from modelport.repository.layout import DEFAULT_REPOSITORY, version_numbers


@dataclass(frozen=True, kw_only=True)
class Captured:
    """A model that is captured, or of which something is kept.

    Attributes:
        model: Model name.
        rule: How it is captured; None where it is no longer.
        kept: What is kept.
    """

    model: str
    rule: Rule | None
    kept: Kept


@dataclass(frozen=True, kw_only=True)
class Set:
    """A rule that was set.

    Attributes:
        rule: The rule.
        as_they_are: The tensors whose values are kept; in texts among them, matches of expressions are replaced.
        key_file: Where the key is with which they are encrypted.
    """

    rule: Rule
    as_they_are: tuple[str, ...]
    key_file: Path


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What was captured.

    Attributes:
        exchanges: The latest, the oldest of them first.
        damaged: Records that were refused.
    """

    exchanges: tuple[Exchange, ...]
    damaged: tuple[Damaged, ...]


def listed(repository: str | os.PathLike[str] = DEFAULT_REPOSITORY) -> tuple[list[Captured], Counts]:
    """The models that are captured or of which something is kept, and what became of what the gate sent.

    Args:
        repository: Folder of the model repository.

    Raises:
        ManifestError: The rules cannot be read.
    """
    root = Path(repository)
    keeper.expire(root, time.time())
    rules = stored.rules(root)
    names = sorted({*rules, *keeper.models(root)})
    rows = [Captured(model=name, rule=rules.get(name), kept=keeper.kept(root, name)) for name in names]
    return rows, receiver.told(root)


def capture(
    name: str,
    *,
    part: float | None = None,
    redact: Collection[str] | None = None,
    keep_s: float | None = None,
    also: Collection[str] | None = None,
    most_bytes: int | None = None,
    repository: str | os.PathLike[str] = DEFAULT_REPOSITORY,
) -> Set:
    """Capture a model's requests, or change how; what is left out stays as it is.

    Args:
        name: Model name.
        part: Share of the requests, above 0 and up to 1; needed for a model that is not captured yet.
        redact: Names of tensors whose values are replaced, and regular expressions as `re:...` for texts; they take the
            place of those that hold now.
        keep_s: Seconds after which what was captured is deleted at the latest.
        also: What else is kept: `id`, `parameters`, `tenant`.
        most_bytes: The most that is kept.
        repository: Folder of the model repository.

    Raises:
        UsageError: Something cannot be, such as a name that is none of the model's tensors.
        ModelNotFoundError: There is no such model.
        ManifestError: Its configuration, the rules, or the key cannot be read.
        EnvironmentUnfitError: The key is missing, or open to others.
    """
    root = Path(repository)
    version_numbers(root, name)
    known = stored.rules(root).get(name)
    if known is None and part is None:
        raise UsageError(
            f"{name!r} is not captured", why="nothing says how many of its requests", fix="give --sample, such as 1%"
        )
    given = {
        "part": part,
        "keep_s": keep_s,
        "most_bytes": most_bytes,
        "redact": None if redact is None else tuple(dict.fromkeys(redact)),
        "also": None if also is None else tuple(dict.fromkeys(also)),
    }
    wanted: dict[str, Any] = {word: value for word, value in given.items() if value is not None}
    before = {field: getattr(known, field) for field in given} if known is not None else {}
    rule = Rule(model=name, **{**before, **wanted})
    inputs, outputs = _tensors(root, rule)
    for word in rule.patterns if known is None else set(rule.patterns) - set(known.patterns):
        patterns.check_speed(word)
    secret.read_or_make(root)
    stored.put(root, rule)
    keeper.expire(root, time.time())
    text = f"{rule.part:.6g} of the requests is captured; replaced: {', '.join(rule.redact) or 'nothing'}"
    events.append(root, events.event("capture_on", text, model=name, part=rule.part, keep_s=rule.keep_s))
    return Set(rule=rule, as_they_are=(*inputs, *outputs), key_file=secret.path(root))


def stop(
    name: str, *, delete: bool = False, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY
) -> tuple[bool, Kept]:
    """Capture no more of a model. What is kept stays until it is of age.

    Args:
        name: Model name.
        delete: Delete what is kept.
        repository: Folder of the model repository.

    Returns:
        Whether it was captured, and what was kept of it before something was deleted.

    Raises:
        ManifestError: The rules cannot be read.
        RepositoryError: The disk refuses.
    """
    root = Path(repository)
    keeper.expire(root, time.time())
    was, kept = stored.remove(root, name), keeper.kept(root, name)
    if delete:
        keeper.delete(root, name)
    if was or (delete and kept.files):
        text = "no more requests are captured" + (f", and {kept.files} files of them are deleted" if delete else "")
        events.append(root, events.event("capture_off", text, model=name))
    return was, kept


def show(name: str, count: int, *, repository: str | os.PathLike[str] = DEFAULT_REPOSITORY) -> Shown:
    """The latest that were captured, decrypted.

    Args:
        name: Model name.
        count: How many.
        repository: Folder of the model repository.

    Raises:
        EnvironmentUnfitError, ManifestError: The key cannot be read.
        UsageError: Nothing is kept.
    """
    root = Path(repository)
    found, damaged = read_kept(root, name, since=0.0, limit=count)
    return Shown(exchanges=tuple(found), damaged=tuple(damaged))


def read_kept(root: Path, name: str, *, since: float, limit: int | None) -> tuple[deque[Exchange], list[Damaged]]:
    """What is kept of a model, the oldest first: since a time, and of that the latest `limit`; and what is damaged.

    Raises:
        EnvironmentUnfitError, ManifestError: The key cannot be read.
        UsageError: Nothing is kept.
    """
    keeper.expire(root, time.time())
    if not keeper.kept(root, name).files:
        raise UsageError(
            f"nothing that was captured of {name!r} is kept",
            why="it is not captured, its requests were few, or they came to their age",
            fix="'modelport capture' shows what is captured, and what became of it",
        )
    exchanges: deque[Exchange] = deque(maxlen=limit)
    damaged: list[Damaged] = []
    for one in keeper.read(root, name, secret.read(root), since=since):
        if isinstance(one, Damaged):
            damaged.append(one)
        else:
            exchanges.append(one)
    return exchanges, damaged


def _tensors(root: Path, rule: Rule) -> tuple[list[str], list[str]]:
    """The inputs and outputs whose values are kept; a misspelt name would keep what must not be kept."""
    spec = configs.spec_of(switch.read(root, rule.model)[0])
    inputs, outputs = [t.name for t in spec.inputs], [t.name for t in spec.outputs]
    unknown = sorted(rule.fields - {*inputs, *outputs})
    if unknown:
        raise UsageError(
            f"{rule.model!r} has no tensor {', '.join(map(repr, unknown))}",
            why=f"its inputs are {', '.join(inputs)}, its outputs are {', '.join(outputs)}",
            fix="name one of these, or give a regular expression as 're:...'",
        )
    return [n for n in inputs if n not in rule.fields], [n for n in outputs if n not in rule.fields]
