"""Sample models made smaller: size, latency, throughput beside the original, and what they lose.

    python benchmarks/optimising.py             all of GOALS below; those of resnet18 train for some minutes
    python benchmarks/optimising.py --quick     few crops, short rounds; training on slivers, which makes no good model
    python benchmarks/optimising.py --models digits_cnn

Each model is copied into a repository of its own, optimised there by `modelport optimise`, and replayed: the repository
that is given is only read. `digits_cnn` and `sentiment_lstm` are scored on their recipe's evaluation data, half of it
without labels for calibration where that is needed. `image_classifier` is calibrated with crops of four photographs and
scored on crops of four others: no photograph does both. `resnet18` is pruned and trained once more by its recipe. It
also teaches a small network with 14,000 images that it has not seen, 2,000 of them labelled; the same network is then
trained with these 2,000 alone, for as many steps. Its weights have to be there: `python export/resnet18.py` builds it.
Both models are measured in ONNX Runtime in this process, in turns. The file keeps each round; where a goal is missed
the profile of both models is kept as well.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modelport.bench import results
from modelport.commands.optimise import Optimised, optimise
from modelport.commands.verify import verify
from modelport.convert.runtime import onnxruntime
from modelport.errors import VerificationError
from modelport.optimise.cpu import processor
from modelport.optimise.types import Options
from modelport.recipes import images, published
from modelport.recipes.packages import fetch
from modelport.repository.layout import state_folder

PACKAGES = ("modelport", "onnxruntime", "onnx", "numpy", "torch", "torch-pruning")
RESULTS = Path(__file__).with_name("results")
SIDE, CROP = 224, (0.6, 0.95)  # pixels; share of the shorter side
CALIBRATES = ("china.jpg", "flower.jpg", "rocket.jpg", "motorcycle_left.png")
SCORED = ("camera.png", "chelsea.png", "clock_motion.png", "coffee.png")


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a model is to reach, and how it is optimised."""

    to: str
    smaller: float | None = None
    faster: float | None = None
    max_drop: float | None = None
    min_agreement: float | None = None
    better_than_alone: bool = False  # than the same network trained without the teacher


GOALS = {
    "image_classifier": Goal(to="int8", smaller=3.5, faster=1.5, min_agreement=0.95),
    "digits_cnn": Goal(to="int8", max_drop=0.005),
    "sentiment_lstm": Goal(to="int8-dynamic", smaller=3.0, max_drop=0.01),
    "resnet18/pruned": Goal(to="pruned", faster=1.5, max_drop=0.02),
    "resnet18/distilled": Goal(to="distilled", faster=3.0, better_than_alone=True),
}


def copied(repository: Path, model: str, scratch: Path) -> Path:
    """A repository with one model of another one, and what is kept of its evaluation."""
    target = scratch / model / "model_repository"
    shutil.copytree(repository / model, target / model)
    for folder in ("placed", "evaluation", "evaluation/gates", "weights"):
        (state_folder(target) / folder).mkdir(parents=True)
        for path in (state_folder(repository) / folder).glob(f"{model}[-.]*"):
            shutil.copy(path, state_folder(target) / folder)
    return target


def crops(files: Sequence[str], count: int, seed: int) -> dict[str, np.ndarray]:
    """Random parts of photographs, some mirrored, with the classes that are to be seen."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    random, folder = np.random.default_rng(seed), fetch(published.SKIMAGE)
    words = [label.split(",")[0] for label in images.imagenet_labels()]
    found, seen = [], []
    for file in files:
        own = (folder / file).is_file()
        picture = Image.open(folder / file) if own else Image.fromarray(load_sample_image(file))
        for _ in range(count):
            side = int(min(picture.size) * random.uniform(*CROP))
            left, top = (int(random.integers(0, size - side + 1)) for size in picture.size)
            part = picture.convert("RGB").crop((left, top, left + side, top + side))
            array = np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            found.append(array[:, ::-1] if random.random() < 0.5 else array)
            seen.append([word in images.PHOTOGRAPHS.get(file, ()) for word in words])
    return {"image": np.stack(found), "labels": np.array(seen)}


def samples(model: str, scratch: Path, quick: bool) -> dict[str, Any]:
    """The files that a model is calibrated with and scored on; none for what its recipe kept."""
    if model != "image_classifier":
        return {}
    one, two = crops(CALIBRATES, 8 if quick else 16, 0), crops(SCORED, 12 if quick else 50, 1)
    np.savez(scratch / "calibration.npz", image=one["image"])
    np.savez(scratch / "scored.npz", **two)
    return {"data": scratch / "calibration.npz", "evaluation": str(scratch / "scored.npz")}


def profile(file: Path, row: Mapping[str, np.ndarray], scratch: Path, runs: int = 30) -> dict[str, float]:
    """Microseconds of one run by operator, the costly ones first."""
    import json

    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(scratch / "profile")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    for _ in range(runs):
        session.run(None, dict(row))
    events = json.loads(Path(session.end_profiling()).read_text())
    spent = Counter[str]()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    return {name: round(taken / runs, 1) for name, taken in spent.most_common(8)}


def checks(goal: Goal, done: Optimised, alone: Optimised | None) -> dict[str, bool]:
    """Which of the goals are reached."""
    seen, first, last = done.measured, done.scores[0], done.scores[-1]
    found = {
        "smaller": (goal.smaller, seen.smaller, 1),
        "faster": (goal.faster, seen.faster.median, 1),
        "drop": (goal.max_drop, first.drop, -1),
        "agreement": (goal.min_agreement, last.after, 1),
        "better than alone": (alone and alone.scores[0].after + 1e-9, first.after, 1),
    }
    return {name: sign * value >= sign * limit for name, (limit, value, sign) in found.items() if limit is not None}


def one(case: str, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Optimise a model, replay it, and give everything that was seen."""
    goal, model = GOALS[case], case.partition("/")[0]
    repository = copied(options.repository, model, scratch)
    trains = goal.to in ("pruned", "distilled")
    allowed = 1.0 if goal.better_than_alone or (trains and options.quick) else goal.max_drop
    how = Options(
        calibration=options.calibration,
        max_drop=allowed,
        min_agreement=goal.min_agreement,
        quick=options.quick,
    )
    given = samples(model, scratch, options.quick)
    measuring = {"rounds": options.rounds, "seconds": options.seconds}
    try:
        done = optimise(model, to=goal.to, repository=repository, options=how, report=print, **given, **measuring)
        alone = None
        if goal.better_than_alone:
            unaided = replace(how, teaching=0.0)
            alone = optimise(model, to=goal.to, repository=repository, options=unaided, report=print, **measuring)
    except VerificationError as exc:
        print(exc)
        return {"model": model, "to": goal.to, "goal": asdict(goal), "refused": exc.what}
    replayed = verify(f"{model}/{done.version}", repository=repository)[0].comparisons.values()
    reached = checks(goal, done, alone)
    facts = {"model": model, "to": goal.to, "goal": asdict(goal), "reached": reached, "notes": done.notes}
    facts |= {"measured": asdict(done.measured), "scores": [{**asdict(s), "drop": s.drop} for s in done.scores]}
    facts |= {"made": {name: value for name, value in done.facts.items() if "{" not in value}}
    facts |= {"replayed": {c.tensor: {"error": c.max_abs_error, "allowed": c.allowed} for c in replayed}}
    if alone is not None:
        facts["alone"] = {"scores": [asdict(s) for s in alone.scores], "made": {**alone.facts}}
    if not reached.get("faster", True):
        with np.load(repository / model / str(done.version) / "golden.npz") as golden:
            row = {name.removeprefix("input:"): golden[name][:1] for name in golden.files if name.startswith("input:")}
        versions = {"before": done.origin, "after": done.version}
        facts["profile_us"] = {
            which: profile(repository / model / str(version) / "model.onnx", row, scratch)
            for which, version in versions.items()
        }
    return facts


def summary(facts: Mapping[str, Any]) -> str:
    if "refused" in facts:
        return f"{facts['model']} to {facts['to']}: {facts['refused']}"
    seen = facts["measured"]
    scores = ", ".join(
        f"{s['metric']} {s['before']:.4f} to {s['after']:.4f} on {s['samples']}" for s in facts["scores"]
    )
    if "alone" in facts:
        scores += f" (without the teacher {facts['alone']['scores'][0]['after']:.4f})"
    flag = " (unstable: the machine was not quiet)" if results.Spread(**seen["faster"]).unstable else ""
    missed = [name for name, reached in facts["reached"].items() if not reached]
    before, after = seen["before"], seen["after"]
    parts = [
        f"{facts['model']} to {facts['to']}: {seen['smaller']:.2f} x smaller",
        f"latency {before['latency_ms']:.3f} to {after['latency_ms']:.3f} ms"
        f", x {seen['faster']['median']:.2f} faster{flag}",
        f"throughput x {seen['more']['median']:.2f}",
        scores,
        f"missed: {', '.join(missed)}" if missed else "all goals reached",
    ]
    return "; ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--models", nargs="+", choices=tuple(GOALS), default=list(GOALS))
    parser.add_argument("--calibration", default="minmax", help="minmax, entropy or percentile")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each model's part of a round")
    parser.add_argument("--quick", action="store_true", help="48 crops, 3 rounds of at most 0.2 s")
    parser.add_argument("--output", type=Path, default=RESULTS / "optimising.json")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = min(3, options.rounds), min(0.2, options.seconds)
    circumstances = results.conditions(PACKAGES)
    circumstances["processor"] = asdict(processor())
    rows: list[dict[str, Any]] = []
    for model in options.models:
        with tempfile.TemporaryDirectory(prefix="modelport-optimising-") as scratch:
            rows.append(one(model, options, Path(scratch)))
        results.write(options.output, circumstances=circumstances, rows=rows)
        print(summary(rows[-1]), flush=True)
    print("\n".join([*map(summary, rows), f"every round: {options.output}"]))


if __name__ == "__main__":
    main()
