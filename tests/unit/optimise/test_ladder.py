"""`optimise --budget`: the best within the budget is published, the others are told, and nothing is done twice."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import pytest

from modelport.bench.results import Spread
from modelport.cli import main
from modelport.commands.ladder import Climbed, optimise_within
from modelport.errors import ExampleInputError, RepositoryLockedError, UsageError, VerificationError
from modelport.optimise import origin as origins
from modelport.optimise import unfinished
from modelport.optimise.ladder.climb import best, explained
from modelport.optimise.ladder.rungs import ladder
from modelport.optimise.ladder.tried import PASSED, Tried, Workshop
from modelport.optimise.measure import Measured, Side
from modelport.optimise.types import Options
from modelport.repository import manifest as manifests
from modelport.repository.layout import state_folder, version_numbers
from modelport.repository.registry import row

QUICK = {"rounds": 1, "seconds": 0.01, "objective": "size"}


def climb(repository, model, budget="agreement >= 0.5", **more) -> Climbed:
    return optimise_within(model, budget=budget, repository=repository, **{**QUICK, **more})


def kept(repository):
    """What is kept of what was tried, without locks."""
    folder = state_folder(repository) / "optimise"
    return sorted(path.parent.name for path in folder.glob("*/*/tried.json")) if folder.is_dir() else []


def states(done) -> dict[str, str]:
    return {one.rung: one.state for one in done.rungs}


def test_the_best_is_published_and_the_others_are_told(repository, data):
    done = climb(repository, "pictures", data=data("pictures"))
    assert states(done) == {
        "int8-dynamic": "impossible",
        "int8, minmax": "kept",
        "int8, entropy": "not tried",
        "int8, percentile": "not tried",
        "fp16": "not tried",
        "pruned": "not tried",
        "distilled": "not tried",
    }
    why = {one.rung: one.why for one in done.rungs}
    assert "Conv" in why["int8-dynamic"] and "all layers are quantised in int8, minmax" in why["int8, entropy"]
    assert "for GPUs" in why["fp16"] and "--recipe FILE" in why["pruned"]
    assert (done.published, row(repository, "pictures", 2).state) == ("pictures/2", "candidate")
    facts = manifests.read(done.folder).facts
    assert (facts["optimised_budget"], facts["optimised_objective"]) == ("agreement >= 0.5", "size")
    assert facts["optimised_from"] == "pictures/1" and json.loads(facts["optimised_tried"]) == states(done)
    assert "tried.json" not in {path.name for path in done.folder.iterdir()}
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(done.folder / "model.onnx").graph.node}
    assert not kept(repository), "what was tried is not needed any more"


def test_where_none_is_within_the_budget_nothing_is_published_and_nothing_is_tried_again(repository, data):
    file, said = data("memory", rows=3000), []
    done = climb(repository, "memory", "agreement >= 1", data=file)
    (tried,) = (one for one in done.rungs if one.rung == "int8-dynamic")
    assert tried.state == "refused" and "would lose too much" in tried.why and tried.scores[0].drop > 0
    why = {one.rung: one.why for one in done.rungs}
    assert "LSTM" in why["int8, minmax"] and why["int8, percentile"] == "as int8, minmax"
    with pytest.raises(VerificationError, match=r"no version of memory/1 is within 'agreement >= 1' and smaller"):
        done.require()
    again = climb(repository, "memory", "agreement >= 1", data=file, report=said.append)
    assert again == done and said[1:] == ["going on from where it was interrupted"]
    assert version_numbers(repository, "memory") == [1]
    (folder,) = (state_folder(repository) / "optimise").glob("memory-1-ladder-*")
    (folder / "making-killed").mkdir()
    (folder / "int8-dynamic" / "tried.json").write_text("{")
    assert states(climb(repository, "memory", "agreement >= 1", data=file)) == states(done)
    assert not (folder / "making-killed").exists(), "what a kill left behind is removed, and made anew"
    unfinished.forget(repository, "memory", 11)
    with unfinished.held(folder, "another one is at work"), ThreadPoolExecutor(1) as other:
        other.submit(unfinished.forget, repository, "memory", 1).result()
    assert kept(repository)
    unfinished.forget(repository, "memory", 1)
    assert not folder.exists(), "the version was deleted"


@pytest.mark.parametrize("changed", ["budget", "data", "options"])
def test_what_was_tried_holds_for_one_budget_one_set_of_samples_and_one_way(repository, data, changed):
    climb(repository, "memory", "agreement >= 1", data=data("memory", rows=3000), kinds=("int8-dynamic",))
    before, said = kept(repository), []
    more = {"data": data("memory", rows=2999 if changed == "data" else 3000)}
    if changed == "options":
        more["options"] = Options(per_channel=False)
    budget = "agreement drop <= 0" if changed == "budget" else "agreement >= 1"
    climb(repository, "memory", budget, kinds=("int8-dynamic",), report=said.append, **more)
    assert len(kept(repository)) == 2 * len(before) and "going on from where it was interrupted" not in said


def test_after_an_interruption_the_same_command_goes_on(repository, data):
    """Ctrl-C while it measures the second: the first is not made again, not for another objective either."""
    file = data("uneven")

    def stopping(text):
        if "int8, entropy: measuring" in text:
            raise KeyboardInterrupt

    more = {"data": file, "options": Options(per_channel=False), "kinds": ("int8",)}
    budget = "agreement drop <= 0.05"
    with pytest.raises(KeyboardInterrupt):
        climb(repository, "uneven", budget, report=stopping, **{**more, "objective": "latency"})
    assert kept(repository) == ["int8, minmax".replace(", ", "-")]
    said: list[str] = []
    done = climb(repository, "uneven", budget, report=said.append, **more)
    assert not [text for text in said if text.startswith("1 of 3")] and any(text.startswith("2 of 3") for text in said)
    assert done.published == "uneven/2" and not kept(repository)
    assert not [*(state_folder(repository) / "staging").iterdir()]


def test_what_is_kept_and_was_damaged_is_made_anew(repository, data):
    file = data("memory")

    def damaging(text):
        if text == "publishing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        climb(repository, "memory", data=file, report=damaging)
    (path,) = (state_folder(repository) / "optimise").glob("*/int8-dynamic/model.onnx")
    path.write_bytes(path.read_bytes()[:-1])
    done = climb(repository, "memory", data=file)
    onnx.checker.check_model(onnx.load(done.folder / "model.onnx"))


def test_what_was_published_before_a_kill_is_not_published_again(repository, data, monkeypatch):
    file = data("memory")
    with monkeypatch.context() as patched:
        patched.setattr(Workshop, "clear", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            climb(repository, "memory", data=file)
    assert version_numbers(repository, "memory") == [1, 2] and kept(repository)
    assert climb(repository, "memory/1", data=file).published == "memory/2"
    assert version_numbers(repository, "memory") == [1, 2] and not kept(repository)


def test_the_same_ladder_is_climbed_once_at_a_time(repository, data):
    file, found = data("memory"), []

    def other(text):
        if text.endswith("within budget"):  # another thread is for the lock as another process
            found.append(threads.submit(climb, repository, "memory", data=file).exception())

    with ThreadPoolExecutor(1) as threads:
        assert climb(repository, "memory", data=file, report=other).published == "memory/2"
    assert isinstance(found[0], RepositoryLockedError)
    assert "memory/1 is being optimised within a budget" in str(found[0])


def test_with_labels_the_metric_decides_and_the_original_has_to_keep_the_budget(repository, tmp_path, data):
    path = data("pictures", labels=np.arange(96) % 4)
    done = climb(repository, "pictures", "accuracy drop <= 0.2", evaluation=str(path), kinds=("int8",))
    (best_one,) = (one for one in done.rungs if one.state == "kept")
    assert best_one.scores[0].metric == "accuracy" and best_one.drop.low <= best_one.drop.value <= best_one.drop.high
    with pytest.raises(VerificationError, match="original does not keep"):
        climb(repository, "pictures/1", "accuracy >= 0.99", evaluation=str(path))
    assert version_numbers(repository, "pictures") == [1, 2]


def test_too_few_samples_leave_int8_out_and_are_an_error_where_nothing_else_is_tried(repository):
    done = climb(repository, "memory")
    assert done.published == "memory/2" and "to optimise memory/1 with" in {o.rung: o.why for o in done.rungs}["int8"]
    with pytest.raises(ExampleInputError, match="to optimise memory/1 with"):
        climb(repository, "memory/1", kinds=("int8",))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"budget": "speed >= 1"}, "no metric 'speed'"),
        ({"objective": "beauty"}, "objective 'beauty' is not one of latency, throughput, size"),
        ({"kinds": ("int8", "int4")}, "'int4'"),
        ({"ratio": 1.0, "options": Options(max_drop=0.1)}, "ratio 1.0 .*; max_drop and a budget"),
        ({"calibration": "guess"}, "guess"),
    ],
)
def test_wrong_options_are_one_clear_error(repository, wrong, words):
    with pytest.raises(UsageError, match=words):
        climb(repository, "memory", **wrong)
    assert not kept(repository)


def on_gpu(repository, name):
    found = origins.read(repository, name)
    found.config.instance_group[0].kind = found.config.instance_group[0].KIND_GPU
    return found


def test_from_the_cheapest_to_the_dearest_and_for_where_the_version_runs(repository, tmp_path):
    recipe = tmp_path / "recipe.py"
    origin, how = origins.read(repository, "pictures"), Options(recipe=recipe, student="narrow")
    assert [rung.words for rung in ladder(origin, how).rungs] == [
        *("int8-dynamic", "int8, minmax", "int8, entropy", "int8, percentile"),
        *("pruned, 0.25", "pruned, 0.5", "pruned, 0.75", "distilled"),
    ]
    narrowed = ladder(origin, how, kinds=("int8", "pruned", "fp16"), calibration="entropy", ratio=0.4)
    assert [rung.words for rung in narrowed.rungs] == ["fp16", "int8, entropy", "pruned, 0.4"]
    assert [rung.options.ratio for rung in narrowed.rungs][-1] == 0.4
    there = ladder(on_gpu(repository, "pictures"), Options())
    assert [rung.words for rung in there.rungs] == ["fp16"] and {"int8", "int8-dynamic"} <= {*there.left_out}


def measured(faster: Spread, smaller: float = 2.0) -> Measured:
    side = Side(size_bytes=1, latency_ms=1.0, rows_per_s=1.0)
    return Measured(
        **{"before": side, "after": side, "smaller": smaller, "faster": faster, "more": faster},
        **{"batch": 8, "sessions": 1, "threads": 1, "rounds": 3, "how": "", "raw": ()},
    )


def test_only_what_is_better_in_each_round_is_kept():
    shaky, slow, fast = (
        Tried(rung=rung, to="int8", state=PASSED, measured=measured(Spread(median=m, low=low, high=m + 1), smaller))
        for rung, m, low, smaller in (("shaky", 3.0, 0.9, 4.0), ("slow", 1.2, 1.1, 3.0), ("fast", 1.5, 1.2, 2.0))
    )
    tried = (shaky, slow, fast, replace(fast, rung="lossy", state="refused", measured=None, why="it loses"))
    assert best(tried, "latency") is fast and best(tried, "size") is shaky and best((shaky,), "latency") is None
    told = explained(tried, "latency")
    assert [one.state for one in told] == [PASSED, PASSED, "kept", "refused"]
    assert told[0].why == "not faster in each round: 3.00 x (0.90 to 4.00)" and told[1].why == "fast is faster"
    assert told[3].why == "it loses"


def test_the_command_prints_a_table_or_json_and_fails_where_nothing_was_published(repository, data, capsys):
    words = ["optimise", "memory", "--rounds", "1", "--seconds", "0.01", "--repository", str(repository), "--objective"]
    assert main([*words, "size", "--budget", "agreement >= 50%", "--to", "int8-dynamic"]) == 0
    shown = capsys.readouterr().out
    assert "published memory/2, int8-dynamic of version 1" in shown and "why not" in shown and "kept" in shown
    assert "'modelport promote memory 2' lets it serve" in shown
    assert main([*words, "size", "--budget", "agreement >= 0.5", "--to", "int8", "--json"]) == 14
    capsys.readouterr()
    file = str(data("memory", rows=3000))
    assert main([*words, "size", "--budget", "agreement >= 1", "--data", file, "--json"]) == 20
    told = capsys.readouterr()
    assert json.loads(told.out)["published"] is None and "nothing was published" in told.err
    assert main([*words, "size", "--to", "int8-dynamic"]) == 2
    assert main(words[:-1]) == 2
    assert "--objective is given without --budget" in (err := capsys.readouterr().err) and "not said to what" in err
