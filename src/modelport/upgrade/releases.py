"""The table `releases.json`: what is in which container, and what a release changed. Each row names its source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from modelport.errors import UsageError
from modelport.repository.doctor.finding import Severity
from modelport.repository.doctor.targets import Target

FILE = "releases.json"
OTHER_CONTAINERS = frozenset({"vllm", "tensorrtllm"})  # backends in containers of their own of the same tag


@dataclass(frozen=True, kw_only=True)
class Release:
    """One container; None is unknown.

    Attributes:
        container: Its tag, such as `26.09`; as texts they have the order of time.
        triton: Triton's version.
        onnxruntime: ONNX Runtime's version.
        backends: What it is built with.
        cuda: CUDA's version.
        driver: The driver that NVIDIA's page names, at least.
        compute: The GPUs' compute capability, at least.
        source: Where versions and backends stand.
        cuda_source: Where the rest stands.
    """

    container: str
    triton: str | None
    onnxruntime: str | None
    backends: tuple[str, ...] | None
    cuda: str | None
    driver: int | None
    compute: str | None
    source: str
    cuda_source: str | None

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.container} (Triton {self.triton})" if self.triton else self.container


@dataclass(frozen=True, kw_only=True)
class Change:
    """What came with a release.

    Attributes:
        id: Stable name.
        since: The first release with it; None for what holds with every move.
        kind: `removed`, `changed`, `mended` or `demand`.
        severity: `error`: what is served now is refused. `warning`: look at it before. `note`: worth knowing.
        when: The condition under which it concerns somebody, a name in `conditions`.
        what: What it is.
        why: What comes of it.
        fix: What to do.
        source: Where it stands.
    """

    id: str
    since: str | None
    kind: str
    severity: Severity
    when: str
    what: str
    why: str
    fix: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """All of it.

    Attributes:
        releases: Oldest first.
        changes: See `Change`.
        takes: Version of ONNX Runtime to the newest operator set and IR version that it takes.
        abilities: Name to the first release that has it, and the source.
        options: Of the oldest release's `tritonserver`, without the dashes.
        added: Option to the release that brought it.
        deprecated: Option to what took its place.
        options_source: Where the options stand.
    """

    releases: tuple[Release, ...]
    changes: tuple[Change, ...]
    takes: Mapping[str, tuple[int, int]]
    abilities: Mapping[str, tuple[str, str]]
    options: frozenset[str]
    added: Mapping[str, str]
    deprecated: Mapping[str, str]
    options_source: str

    def release(self, name: str) -> Release:
        """The release of a container's tag or a version of Triton, such as `26.09`, `26.09-py3`, `2.73`, `2.73.0`.

        Raises:
            UsageError: It is not in the table.
        """
        tag = name.partition("-")[0]
        for one in self.releases:
            if tag == one.container or (one.triton and tag in (one.triton, one.triton.rpartition(".")[0])):
                return one
        first, last = self.releases[0], self.releases[-1]
        raise UsageError(
            f"nothing is known here about a release {name!r}",
            why=f"the table knows {first.words} to {last.words}",
            fix="give one of these, as 26.09 or 2.73.0; for a later one, a later modelport",
        )

    def has(self, release: Release, ability: str) -> bool:
        """Whether a release can do something."""
        return release.container >= self.abilities[ability][0]

    def options_of(self, release: Release) -> frozenset[str]:
        """The options of a release's `tritonserver`."""
        return self.options | {name for name, since in self.added.items() if since <= release.container}

    def built(self, release: Release) -> Release:
        """The release, or where it is not known what is in it, the last one before of which it is."""
        return next(one for one in reversed(self.releases) if one.container <= release.container and one.backends)

    def target(self, release: Release) -> Target:
        """A release as `modelport doctor` knows containers; what is unknown of it is as in the last one before."""
        built = self.built(release)
        runtime, backends = built.onnxruntime or "", built.backends or ()
        opset, ir = self.takes[runtime]
        unknown = {
            "model_metrics": ("model_metrics",),
            "max_inflight_requests": ("ensemble_scheduling", "max_inflight_requests"),
        }
        return Target(
            name=release.container,
            triton=release.triton or "of unknown version",
            onnxruntime=runtime,
            max_opsets={"": opset, "ai.onnx": opset, "ai.onnx.ml": 5},
            max_ir=ir,
            backends=frozenset(backends) | OTHER_CONTAINERS,
            unknown_fields=tuple(path for name, path in unknown.items() if not self.has(release, name)),
            cache_leaks=not self.has(release, "cache_mended"),
            aoti=self.has(release, "aoti"),
            full_step_hangs=not self.has(release, "full_step_mended"),
        )


@cache
def table() -> Table:
    """The table that comes with modelport."""
    return parse(json.loads(resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8")))


def parse(content: Mapping[str, Any]) -> Table:
    """The table of a file's content."""
    runtime, options = content["onnxruntime"], content["options"]
    takes = {version: (int(opset), int(ir)) for version, (opset, ir) in runtime["takes"].items()}
    takes |= {version: takes[like] for version, like in runtime["as"].items()}
    return Table(
        releases=tuple(
            Release(**{**row, "backends": tuple(row["backends"]) if row["backends"] else None})
            for row in content["releases"]
        ),
        changes=tuple(Change(**row) for row in content["changes"]),
        takes=takes,
        abilities={name: (row["since"], row["source"]) for name, row in content["abilities"].items()},
        options=frozenset(options[content["releases"][0]["container"]]),
        added={row["option"]: row["since"] for row in options["added"]},
        deprecated=options["deprecated"],
        options_source=options["source"],
    )
