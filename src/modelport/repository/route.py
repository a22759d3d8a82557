"""How the gateway shares out a model's unversioned calls among its versions; a part of the model's record.

It stands beside the aliases in `config.pbtxt`, so that it changes together with the version policy in one rename: no
kill between the two leaves a route to a version that is not loaded.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

TENANT, HEADER = "tenant", "header:"
WHOLE = 100.0


@dataclass(frozen=True, kw_only=True)
class Share:
    """A part of the calls.

    Attributes:
        target: A version number as it is typed, or an alias.
        percent: How many of a hundred calls go there, above 0.
    """

    target: str
    percent: float


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where unversioned calls go.

    Attributes:
        shares: The parts; together 100 percent. Empty where no route is set: calls then go to the serving version.
        sticky: What always leads to the same version: `tenant`, `header:NAME`, or empty for nothing.
        shadow: A version number or an alias that gets a copy of each call and whose answers nobody sees; or empty.
    """

    shares: tuple[Share, ...] = ()
    sticky: str = ""
    shadow: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """All that it names, in order, each once."""
        return tuple(dict.fromkeys([*(share.target for share in self.shares), *filter(None, [self.shadow])]))

    @property
    def numbers(self) -> frozenset[int]:
        """The versions that it names by their number: these must stay loaded. Aliases see to their own."""
        return frozenset(int(target) for target in self.targets if target.isdecimal())

    def versions(self, aliases: Mapping[str, int], loaded: Collection[int]) -> dict[int, float]:
        """Version to percent. What is not loaded gets nothing, and the others share out what it had.

        Args:
            aliases: The model's aliases.
            loaded: The versions that answer.
        """
        found: dict[int, float] = {}
        for share in self.shares:
            version = resolved(share.target, aliases)
            if version in loaded and version is not None:
                found[version] = found.get(version, 0.0) + share.percent
        whole = sum(found.values())
        return {version: WHOLE * percent / whole for version, percent in found.items()}

    def led(self, gone: Collection[str], target: int | None) -> Route:
        """The route after targets were lost: what went to them goes to `target` now.

        Where all calls would go to `target` then, there is no route any more: that is what happens without one.

        Args:
            gone: Targets that are loaded no more, or not there.
            target: The version that serves; None where none does. The shadow goes nowhere else: it ends.
        """
        if not {*self.targets} & {*gone}:
            return self
        parts: dict[str, float] = {}
        for share in self.shares:
            name = share.target if share.target not in gone else "" if target is None else str(target)
            if name:
                parts[name] = parts.get(name, 0.0) + share.percent
        shadow = "" if self.shadow in gone else self.shadow
        if not shadow and [*parts] in ([], [str(target)]):
            return Route()
        shares = tuple(Share(target=name, percent=percent) for name, percent in parts.items())
        return replace(self, shares=shares, shadow=shadow)

    def meant(self, aliases: Mapping[str, int], loaded: Collection[int]) -> str:
        """`words`, and the versions that these mean now."""
        found = ", ".join(f"{percent:.3g} % to version {v}" for v, percent in self.versions(aliases, loaded).items())
        return f"{self.words()} ({found or 'none of it is loaded'})"

    def words(self) -> str:
        """In one line, such as `stable=90 canary=10, sticky by tenant, shadow 3`."""
        parts = [" ".join(f"{share.target}={share.percent:g}" for share in self.shares) or "all to the serving version"]
        parts += [f"sticky by {self.sticky.replace(':', ' ')}"] if self.sticky else []
        parts += [f"shadow {self.shadow}"] if self.shadow else []
        return ", ".join(parts)


def resolved(target: str, aliases: Mapping[str, int]) -> int | None:
    """The version that a target means; None for an alias that is not there."""
    return int(target) if target.isdecimal() else aliases.get(target)


def content(route: Route) -> dict[str, Any]:
    """As the record keeps it."""
    kept: dict[str, Any] = {"shares": [[share.target, share.percent] for share in route.shares]}
    kept |= {name: word for name, word in (("sticky", route.sticky), ("shadow", route.shadow)) if word}
    return kept


def parse(kept: Mapping[str, Any]) -> Route:
    """The route in what the record keeps.

    Raises:
        ValueError, TypeError, AttributeError: It is damaged.
    """
    shares = tuple(Share(target=str(name), percent=_percent(value)) for name, value in kept.get("shares", []))
    route = Route(shares=shares, sticky=str(kept.get("sticky", "")), shadow=str(kept.get("shadow", "")))
    if route.sticky and route.sticky != TENANT and not route.sticky.startswith(HEADER):
        raise ValueError(f"sticky is {route.sticky!r}")
    return route


def _percent(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
        return float(value)
    raise ValueError(f"{value!r} is no share")
