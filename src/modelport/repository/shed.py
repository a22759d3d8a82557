"""Take versions out of a model's policy that keep the serving one from being loaded.

Triton loads all versions that the policy names, or none of the model: one damaged version that was kept loaded for a
quick rollback would take the model away at the server's next start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from modelport.repository import config as configs
from modelport.repository import drops, events, journal, switch
from modelport.repository.layout import version_numbers

KIND = "taken_out"


def shed(repository: Path, model: str, failed: Mapping[int, str], *, timeout_s: float = 0.0) -> dict[int, str]:
    """Take out what failed to load beside the serving version, and versions that have no folder.

    Nothing is taken out where the serving version is among them: the highest that the policy names and that has a
    folder. What is taken out is no place to go back to any more, and loses its aliases and its share of the route.
    `modelport list` gives the reason, and so does an event; `modelport adopt` looks at the version again.

    Args:
        repository: The model repository.
        model: Model name.
        failed: Versions that did not load, each with the reason.
        timeout_s: Seconds to wait for the model's lock.

    Returns:
        The versions that were taken out, each with the reason.

    Raises:
        ManifestError: The model's `config.pbtxt` cannot be read.
        RepositoryError: The disk refused.
        RepositoryLockedError: Another command is changing the model.
    """
    with journal.changing(repository, model, timeout_s=timeout_s):
        config, known = switch.read(repository, model)
        named, numbers = configs.versions_of(config), version_numbers(repository, model)
        out = {
            v: "it has no folder" if v not in numbers else failed[v] for v in named if v in failed or v not in numbers
        }
        serving = max((v for v in named if v in numbers), default=None)
        if not out or serving is None or serving in out:
            return {}
        for version in out.keys() & {*numbers}:
            drops.refuse(repository, model, version, f"it did not load, and was taken out: {out[version]}")
        gone = {name: version for name, version in known.aliases.items() if version in out}
        left = replace(
            known,
            aliases={name: version for name, version in known.aliases.items() if name not in gone},
            way_back=tuple(v for v in known.way_back if v not in out),
            retired=tuple(sorted({*known.retired, *(v for v in known.way_back if v in out)})),
            route=known.route.led([*map(str, out), *gone], serving),
        )
        configs.set_versions(config, [v for v in named if v not in out])
        switch.write(repository, model, config, left)
        for version, why in sorted(out.items()):
            names = ", ".join(sorted(name for name, target in gone.items() if target == version))
            text = f"it kept version {serving} from being loaded, and is named no more: {why}"
            text += f"; gone with it: alias {names}" if names else ""
            text += "" if left.route == known.route else "; its share of the route goes to the serving version"
            events.append(repository, events.event(KIND, text, model=model, version=version, level="error"))
        return out
