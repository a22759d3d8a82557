"""Find versions in the registry: by name, tag, alias, state, framework, metric."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from modelport.errors import UsageError
from modelport.repository.registry import STATES, VersionRow

LOADED = "loaded"
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_RULE = re.compile(rf"\s*([^<>=!]*[^<>=!\s])\s*({'|'.join(_COMPARE)})\s*(\S+)\s*")


@dataclass(frozen=True, kw_only=True)
class MetricRule:
    """What a metric must be.

    Attributes:
        metric: Its name.
        sign: `>=`, `<=`, `>`, `<`, `=`, `==` or `!=`.
        value: What it is compared with.
    """

    metric: str
    sign: str
    value: float

    def holds(self, row: VersionRow) -> bool:
        """Whether the version has this metric, and it is as wanted."""
        return self.metric in row.metrics and _COMPARE[self.sign](row.metrics[self.metric], self.value)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a version must be to be found; what is None does not matter.

    Attributes:
        name: Part of the model's name, or a pattern of it with `*`, `?`, `[...]`; capitals do not matter.
        tag: One of its tags.
        alias: One of its aliases.
        state: One of `STATES`, or `loaded`.
        framework: Part of what it was trained with, such as `keras`; capitals do not matter.
        metric: What one of its metrics must be.
    """

    name: str | None = None
    tag: str | None = None
    alias: str | None = None
    state: str | None = None
    framework: str | None = None
    metric: MetricRule | None = None

    def wants_model(self, name: str) -> bool:
        """Whether a model's name fits."""
        if self.name is None:
            return True
        pattern, name = self.name.lower(), name.lower()
        return fnmatch.fnmatchcase(name, pattern) if any(c in pattern for c in "*?[") else pattern in name

    def wants(self, row: VersionRow) -> bool:
        """Whether a version fits."""
        return (
            self.wants_model(row.model)
            and (self.tag is None or self.tag in row.tags)
            and (self.alias is None or self.alias in row.aliases)
            and (self.state is None or self.state == row.state or (self.state == LOADED and row.loaded))
            and (self.framework is None or self.framework.lower() in row.framework.lower())
            and (self.metric is None or self.metric.holds(row))
        )

    def select(self, rows: Iterable[VersionRow]) -> list[VersionRow]:
        """The rows that fit, in their order."""
        return [row for row in rows if self.wants(row)]


def search(
    *,
    name: str | None = None,
    tag: str | None = None,
    alias: str | None = None,
    state: str | None = None,
    framework: str | None = None,
    metric: str | None = None,
) -> Search:
    """A search from a user's words.

    Args:
        name: As in `Search`.
        tag: As in `Search`.
        alias: As in `Search`.
        state: As in `Search`.
        framework: As in `Search`.
        metric: A comparison, such as `accuracy>=0.95`.

    Raises:
        UsageError: There is no such state, or the metric is no comparison; both are named.
    """
    wrong, why = [], []
    if state is not None and state not in (*STATES, LOADED):
        wrong.append(f"there is no state {state!r}")
        why.append(f"states are {', '.join((*STATES, LOADED))}")
    rule = _rule(metric) if metric is not None else None
    if metric is not None and rule is None:
        wrong.append(f"{metric!r} is no comparison of a metric")
        why.append("that is a metric's name, one of >= <= > < = !=, and a number")
    if wrong:
        fix = "write for example --state candidate, --metric 'accuracy>=0.95' (in quotes: the shell knows < and >)"
        raise UsageError("; ".join(wrong), why="; ".join(why), fix=fix)
    return Search(name=name, tag=tag, alias=alias, state=state, framework=framework, metric=rule)


def _rule(text: str) -> MetricRule | None:
    found = _RULE.fullmatch(text)
    if found is None:
        return None
    try:
        return MetricRule(metric=found[1], sign=found[2], value=float(found[3]))
    except ValueError:
        return None
