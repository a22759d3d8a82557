"""Read what a route is to be from words, and find all that is wrong with it at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from modelport.errors import InvalidNameError, UsageError
from modelport.repository.route import HEADER, TENANT, WHOLE, Route, Share, resolved
from modelport.spec import parse_target

NONE = "none"
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_SECRET = ("authorization", "cookie", "proxy-authorization")
_ROUNDING = 1e-6


def route(
    model: str,
    words: Sequence[str],
    *,
    before: Route,
    sticky: str | None,
    shadow: str | None,
    aliases: Mapping[str, int],
    loaded: Mapping[str, tuple[int, ...]],
) -> Route:
    """The route that words ask for.

    Args:
        model: Model name, for the message.
        words: Such as `stable=90 canary=10`; none keeps the shares that there are.
        before: The route that it replaces: what is not named stays as it is there.
        sticky: `tenant`, `header:NAME` or `none`; None keeps what there is.
        shadow: A version number, an alias or `none`; None keeps what there is.
        aliases: The model's aliases.
        loaded: What tells which versions are loaded, in words, to the versions.

    Raises:
        UsageError: Something is wrong; all of it is named.
    """
    wrong: list[str] = []
    shares = before.shares
    if words:
        shares, found = _shares(words)
        wrong += found
    made = replace(before, shares=shares)
    if sticky is not None:
        made = replace(made, sticky="" if sticky == NONE else sticky)
        wrong += _sticky(made.sticky)
    if shadow is not None:
        made = replace(made, shadow="" if shadow == NONE else shadow)
        wrong += _name(made.shadow) if made.shadow else ()
    wrong += _targets(made, aliases, loaded)
    if wrong:
        some = next(iter(loaded.values()), ())
        raise UsageError(
            f"the route of {model!r} cannot be set: {'; '.join(dict.fromkeys(wrong))}",
            why=f"loaded are version {_words(some)}; its aliases are {_words(f'{w}={v}' for w, v in aliases.items())}",
            fix=f"write for example 'modelport route {model} stable=90 canary=10'; "
            f"'modelport promote' and 'modelport alias' load and name versions",
        )
    return made


def _shares(words: Sequence[str]) -> tuple[tuple[Share, ...], list[str]]:
    """The shares, and what is wrong with them by themselves."""
    shares: list[Share] = []
    wrong: list[str] = []
    for word in words:
        target, _, text = word.partition("=")
        percent = _number(text.removesuffix("%"))
        found = [*_name(target)] if target else [f"{word!r} names no target"]
        if percent is None or not 0 < percent <= WHOLE:
            found.append(f"{word!r} is no share: write TARGET=PERCENT with more than 0 and at most 100")
        if any(share.target == target for share in shares):
            found.append(f"{target!r} is named twice")
        wrong += found
        shares.append(Share(target=target, percent=percent or 0.0))
    whole = sum(share.percent for share in shares)
    if not wrong and abs(whole - WHOLE) > _ROUNDING:
        wrong.append(f"the shares add up to {whole:g}, not to 100")
    return tuple(shares), wrong


def _targets(made: Route, aliases: Mapping[str, int], loaded: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What is wrong with where it leads."""
    wrong: list[str] = []
    meant: dict[int, str] = {}
    for target in made.targets:
        version = resolved(target, aliases)
        if version is None:
            wrong += [f"there is no alias {target!r}"] if not _name(target) else []
            continue
        wrong += [
            f"{target if str(version) == target else f'{target} (version {version})'} is not loaded by {where}"
            for where, there in loaded.items()
            if version not in there
        ]
        if version in meant and meant[version] != target:
            wrong.append(f"{meant[version]} and {target} are both version {version}")
        meant[version] = target
    if made.shadow and made.shadow in (share.target for share in made.shares):
        wrong.append(f"the shadow {made.shadow} answers calls already")
    return wrong


def _sticky(word: str) -> list[str]:
    name = word.removeprefix(HEADER)
    if word in ("", TENANT):
        return []
    if word == name or not _HEADER.fullmatch(name):
        return [f"nothing can be sticky by {word!r}: write tenant, header:NAME or none"]
    return [f"nothing can be sticky by the secret in header {name!r}"] if name.lower() in _SECRET else []


def _name(target: str) -> list[str]:
    """What is wrong with the name of a target."""
    try:
        parse_target(target)
    except InvalidNameError as exc:
        return [exc.what]
    return []


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _words(words: Iterable[object]) -> str:
    return ", ".join(map(str, words)) or "none"
