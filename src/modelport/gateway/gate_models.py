"""What the gate knows of each model: what its inputs look like, which versions there are, and where calls go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelport.describe.tensors import datatype
from modelport.errors import ManifestError, ModelNotFoundError
from modelport.gateway.capture import stored as captured
from modelport.repository import config as configs
from modelport.repository import switch
from modelport.repository.layout import config_path, model_names, version_numbers
from modelport.repository.route import Route

Mark = tuple[tuple[int, int, int], ...]


class Models:
    """Reads the models of a repository; one that was read is read again only when its files have changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Mark, Mapping[str, Any] | None]] = {}

    def read(self, repository: Path) -> dict[str, Mapping[str, Any]]:
        """Name to what the gate checks, of those with a version that is loaded; what cannot be read is not served.

        Args:
            repository: The model repository.

        Raises:
            RepositoryError: There is no such repository.
        """
        before, self._known = self._known, {}
        rules = captured.rules(repository)
        found: dict[str, Mapping[str, Any]] = {}
        for name in model_names(repository):
            mark, known = _mark(repository, name), before.get(name)
            content = known[1] if known is not None and mark and known[0] == mark else _model(repository, name)
            self._known[name] = mark, content
            if content is not None:
                rule = rules.get(name)
                found[name] = {**content, "capture": rule.part if rule else None}
        return found


def _mark(repository: Path, name: str) -> Mark:
    """What changes with the model's configuration and with its version folders; nothing where one is not there."""
    try:
        seen = [path.stat() for path in (config_path(repository, name), repository / name)]
    except OSError:
        return ()
    return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in seen)


def _model(repository: Path, name: str) -> Mapping[str, Any] | None:
    try:
        config, record = switch.read(repository, name)
        loaded = configs.selected(config, version_numbers(repository, name))
    except (ManifestError, ModelNotFoundError):
        return None
    if not loaded:
        return None
    aliases = {word: str(number) for word, number in record.aliases.items() if number in loaded}
    return {**_inputs(config), "aliases": aliases, **_route(record.route, aliases, loaded)}


def _inputs(config: Any) -> dict[str, Any]:
    inputs = {
        str(one.name): {
            "datatype": datatype(one),
            "dims": [int(dim) for dim in one.dims],
            "optional": bool(one.optional),
        }
        for one in config.input
    }
    return {"batch": int(config.max_batch_size), "inputs": inputs, "names": ", ".join(inputs)}


def _route(route: Route, aliases: Mapping[str, str], loaded: tuple[int, ...]) -> dict[str, Any]:
    """Shares as bounds in percent; what is not loaded gets none, and the others what it had."""
    there = [(_version(one.target, aliases, loaded), one.percent) for one in route.shares]
    shares = [(version, percent) for version, percent in there if version and percent > 0]
    whole, below, bounds = sum(percent for _, percent in shares), 0.0, []
    for version, percent in shares:
        below += 100 * percent / whole
        bounds.append({"version": version, "below": round(below, 6)})
    by, _, header = route.sticky.partition(":")
    sticky = {"by_tenant": by == "tenant", "by_header": header.lower() or None}
    return {
        "route": {**sticky, "shares": bounds} if bounds else None,
        "shadow": _version(route.shadow, aliases, loaded) or None,
    }


def _version(target: str, aliases: Mapping[str, str], loaded: tuple[int, ...]) -> str:
    """The number behind a target, where it is loaded; else nothing."""
    if target.isdecimal():
        return target if int(target) in loaded else ""
    return aliases.get(target, "")
