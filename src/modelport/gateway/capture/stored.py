"""Which models are captured, and how: `<state>/gateway/capture/rules.json`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelport.errors import InvalidNameError, ManifestError, UsageError
from modelport.gateway import private
from modelport.gateway.capture import patterns
from modelport.repository import disk
from modelport.spec import TENSOR_NAME, check_model_name

AREA = "capture"
FILE = "rules.json"
RECORDS = "records"  # the folder of what was captured
FORMAT = 1
DAY_S = 86400
KEEP_S = 7.0 * DAY_S
SHORTEST_S, LONGEST_S = 60, 366 * DAY_S
MOST_BYTES = 256 << 20
LEAST_BYTES = 1 << 20
ALSO = ("id", "parameters", "tenant")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a model is captured.

    Attributes:
        model: Its name.
        part: Share of the requests, above 0 and up to 1.
        redact: Names of tensors, and regular expressions as `re:...`.
        keep_s: Seconds after which what was captured is deleted at the latest.
        also: What else is kept: `id` (of the request), `parameters` (of the request), `tenant`.
        most_bytes: The most that is kept; the oldest goes first.

    Raises:
        UsageError: Something cannot be; all of it is listed.
    """

    model: str
    part: float
    redact: tuple[str, ...] = ()
    keep_s: float = KEEP_S
    also: tuple[str, ...] = ()
    most_bytes: int = MOST_BYTES

    def __post_init__(self) -> None:
        check_model_name(self.model)
        wrong = list(filter(None, map(_wrong_word, self.redact)))
        if not 0 < self.part <= 1:
            wrong.append(f"{self.part:g} is no part of the requests")
        if not SHORTEST_S <= self.keep_s <= LONGEST_S:
            wrong.append(f"{self.keep_s:g} s is not from 1 minute to 366 days")
        wrong += [f"{word!r} is none of {', '.join(ALSO)}" for word in self.also if word not in ALSO]
        if self.most_bytes < LEAST_BYTES:
            wrong.append(f"{self.most_bytes} bytes are less than 1 MiB")
        if wrong:
            raise UsageError(f"{self.model!r} cannot be captured so", why="; ".join(wrong), fix="correct it")

    @property
    def fields(self) -> frozenset[str]:
        """The tensors whose values are replaced."""
        return frozenset(word for word in self.redact if not patterns.is_pattern(word))

    @property
    def patterns(self) -> tuple[str, ...]:
        """The regular expressions, each as `re:...`."""
        return tuple(word for word in self.redact if patterns.is_pattern(word))


def path(repository: Path) -> Path:
    """The file; it is replaced whenever a rule changes, and need not exist."""
    return private.folder(repository, AREA, FILE)


def rules(repository: Path) -> dict[str, Rule]:
    """Model to its rule, for those that are captured.

    Raises:
        ManifestError: The file is damaged.
    """
    file = path(repository)
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        return {name: _rule(name, fields) for name, fields in content["rules"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, InvalidNameError, UsageError) as exc:
        raise ManifestError(
            "the rules for capturing cannot be read",
            why=f"{type(exc).__name__}: {exc}",
            fix=f"remove {file.name} in the gateway's capture folder, and set them again with 'modelport capture'",
            path=str(file),
        ) from exc


def put(repository: Path, rule: Rule) -> None:
    """Set a model's rule, in the place of one that it has.

    Raises:
        ManifestError: The file that is there is damaged.
        RepositoryError: The disk refuses.
    """
    with private.locked(repository, AREA), disk.errors(repository):
        _write(repository, {**rules(repository), rule.model: rule})


def remove(repository: Path, model: str) -> bool:
    """Take a model's rule away; whether it had one.

    Raises:
        ManifestError: The file is damaged.
        RepositoryError: The disk refuses.
    """
    if not path(repository).exists():
        return False
    with private.locked(repository, AREA), disk.errors(repository):
        known = rules(repository)
        had = known.pop(model, None) is not None
        if had:
            _write(repository, known)
        return had


def _write(repository: Path, known: Mapping[str, Rule]) -> None:
    content = {name: dataclasses.asdict(rule) for name, rule in sorted(known.items())}
    for fields in content.values():
        del fields["model"]
    private.write(path(repository), (json.dumps({"format": FORMAT, "rules": content}, indent=1) + "\n").encode())


def _rule(name: str, fields: Mapping[str, Any]) -> Rule:
    lists = {key: tuple(map(str, fields[key])) for key in ("redact", "also")}
    return Rule(
        model=name,
        part=float(fields["part"]),
        keep_s=float(fields["keep_s"]),
        most_bytes=int(fields["most_bytes"]),
        **lists,
    )


def _wrong_word(word: str) -> str:
    """Why a word cannot be redacted; empty where it can."""
    if not patterns.is_pattern(word):
        return "" if TENSOR_NAME.fullmatch(word) else f"{word!r} is no tensor's name, and no expression as 're:...'"
    try:
        patterns.compiled(word)
    except ValueError as exc:
        return str(exc)
    return ""
