"""What is tried for a version, from the cheapest to the dearest, and what is left out, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from modelport.errors import UsageError
from modelport.optimise.origin import recipe_path
from modelport.optimise.registry import KINDS
from modelport.optimise.types import CALIBRATIONS, Options, Origin

ORDER = ("fp16", "int8-dynamic", "int8", "pruned", "distilled")  # from the cheapest to the dearest
RATIOS = (0.25, 0.5, 0.75)
TRAINED = frozenset({"pruned", "distilled"})


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One thing to try.

    Attributes:
        to: The kind.
        words: What it is, such as `int8, entropy`.
        options: How.
    """

    to: str
    words: str
    options: Options

    @property
    def folder(self) -> str:
        """A file name for it."""
        return self.words.replace(", ", "-")


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """What there is to try.

    Attributes:
        rungs: From the cheapest to the dearest.
        left_out: Kind to the reason why it is not tried.
    """

    rungs: tuple[Rung, ...]
    left_out: dict[str, str]


def on_gpu(origin: Origin) -> bool:
    """Whether the version is configured to run on a GPU."""
    return any(group.kind == group.KIND_GPU for group in origin.config.instance_group)


def ladder(
    origin: Origin,
    options: Options,
    *,
    kinds: Sequence[str] = (),
    calibration: str | None = None,
    ratio: float | None = None,
) -> Ladder:
    """What is to be tried.

    Args:
        origin: The version.
        options: How, as far as all rungs have it in common.
        kinds: Those to try; empty for all that make sense where the version runs.
        calibration: The only method for `int8`; None for each.
        ratio: The only share for `pruned`; None for each of `RATIOS`.

    Raises:
        UsageError: There is no such kind.
    """
    unknown = [name for name in kinds if name not in KINDS]
    if unknown:
        raise UsageError(
            f"a model cannot be optimised to {unknown[0]!r}",
            why="there is no such kind",
            fix=f"use some of {','.join(KINDS)}",
        )
    left_out: dict[str, str] = {}
    rungs: list[Rung] = []
    for kind in ORDER:
        if kinds and kind not in kinds:
            continue
        why = ("" if kinds else _unasked(kind, origin, options)) or _without_recipe(kind, origin, options)
        if why:
            left_out[kind] = why
        else:
            rungs += _rungs(kind, options, calibration, ratio)
    return Ladder(rungs=tuple(rungs), left_out=left_out)


def _unasked(kind: str, origin: Origin, options: Options) -> str:
    """Why a kind is not tried unless it is named."""
    if kind == "distilled" and options.student is None:
        return "it teaches another network: name one with --student"
    gpu = on_gpu(origin)
    if kind == "fp16" and not gpu:
        return "it is for GPUs, and this version runs on the processor; --to fp16 tries it all the same"
    if kind.startswith("int8") and gpu:
        return "it is for processors, and this version runs on a GPU; --to names it all the same"
    return ""


def _without_recipe(kind: str, origin: Origin, options: Options) -> str:
    if kind not in TRAINED:
        return ""
    try:
        recipe_path(origin, options)
    except UsageError as exc:
        return f"{exc.what}: {exc.why}; {exc.fix}"
    return ""


def _rungs(kind: str, options: Options, calibration: str | None, ratio: float | None) -> list[Rung]:
    if kind == "int8":
        methods = CALIBRATIONS if calibration is None else (calibration,)
        return [Rung(to=kind, words=f"{kind}, {one}", options=replace(options, calibration=one)) for one in methods]
    if kind == "pruned":
        shares = RATIOS if ratio is None else (ratio,)
        return [Rung(to=kind, words=f"{kind}, {share:g}", options=replace(options, ratio=share)) for share in shares]
    return [Rung(to=kind, words=kind, options=options)]
