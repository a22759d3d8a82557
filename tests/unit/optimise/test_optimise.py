"""`optimise`: a candidate that is smaller, proved, scored, measured, and says what it was made from; or nothing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest

from modelport.bench.results import Spread
from modelport.cli import main
from modelport.commands.adopt import adopt
from modelport.commands.assemble import publish_ensemble
from modelport.commands.gate import gate
from modelport.commands.optimise import optimise
from modelport.commands.verify import verify
from modelport.errors import ConversionError, DataError, ExampleInputError, UsageError, VerificationError
from modelport.evaluate import gate_data
from modelport.optimise.measure import Measured, Side
from modelport.optimise.types import Options
from modelport.repository import manifest as manifests
from modelport.repository.config import EnsembleStep
from modelport.repository.gate import Gate
from modelport.repository.layout import state_folder, version_numbers
from modelport.repository.registry import row
from modelport.spec import ModelSpec, TensorSpec, dtype_of
from modelport.verify import evidence as evidences

QUICK = {"rounds": 1, "seconds": 0.01}


def operators(folder) -> set[str]:
    return {node.op_type for node in onnx.load(folder / "model.onnx").graph.node}


@pytest.mark.parametrize(
    ("model", "to", "has"),
    [
        ("pictures", "int8", {"QuantizeLinear", "DequantizeLinear", "Conv"}),
        ("memory", "int8-dynamic", {"DynamicQuantizeLSTM", "MatMulInteger"}),
        ("pictures", "fp16", {"Conv", "Cast"}),
    ],
)
def test_a_candidate_is_made_that_is_smaller_and_proved(repository, data, model, to, has):
    done = optimise(model, to=to, repository=repository, data=data(model), **QUICK)
    assert (done.version, done.origin, row(repository, model, 2).state) == (2, 1, "candidate")
    assert operators(done.folder) >= has
    assert done.measured.smaller > (1.7 if to == "fp16" else 2.0)
    assert done.measured.before.latency_ms > 0 and done.measured.after.rows_per_s > 0
    assert done.scores[-1].after >= 0.95
    (found,) = verify(f"{model}/2", repository=repository)[0].comparisons.values()
    assert found.ok, "its golden answers are the original's, within the stated tolerance"


@pytest.mark.parametrize("to", ["int8", "fp16"])
def test_a_model_without_a_batch_axis_answers_one_sample_after_the_other(repository, data, to):
    """Files and the data of its gates have rows in front all the same."""
    file = data("single", labels=np.arange(96) % 4)
    gate("single", Gate(metric="accuracy", min=0.01), data=str(file), repository=repository)
    done = optimise("single", to=to, repository=repository, options=Options(max_drop=0.1), **QUICK)
    accuracy, same = done.scores
    assert accuracy.metric == "accuracy" and same.metric == "top-1 agreement" and same.after >= 0.9
    assert same.samples == (48 if to == "int8" else 96) and done.measured.batch == 1
    assert verify("single/2", repository=repository)[0].comparisons["y"].ok
    with pytest.raises(ExampleInputError, match="rows in front"):
        optimise("single/1", to="int8", repository=repository, data=data("pictures"), **QUICK)


def test_what_the_gates_are_about_decides(repository, data):
    file = data("pictures", labels=np.arange(96) % 4)
    gate("pictures", Gate(metric="recall", min=0.01), data=str(file), repository=repository)
    done = optimise("pictures", to="fp16", repository=repository, **QUICK)
    assert [score.metric for score in done.scores] == ["recall", "top-1 agreement"]
    gate_data.path(repository, "pictures").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"pictures\.npz cannot be used"):
        optimise("pictures/1", to="fp16", repository=repository, **QUICK)


def test_the_file_of_a_version_keeps_its_name(repository, data):
    """Versions that were adopted may call it as they like; all versions of a model call it alike."""
    folder = repository / "renamed" / "1"
    folder.mkdir(parents=True)
    shutil.copy(repository / "pictures" / "1" / "model.onnx", folder / "net.onnx")
    config = (repository / "pictures" / "config.pbtxt").read_text().replace("model.onnx", "net.onnx")
    lines = [line for line in config.replace('"pictures"', '"renamed"').splitlines() if "label_filename" not in line]
    (repository / "renamed" / "config.pbtxt").write_text("\n".join(lines))
    adopt("renamed/1", repository=repository)
    done = optimise("renamed", to="int8", repository=repository, data=data("pictures"), **QUICK)
    assert (done.folder / "net.onnx").is_file() and not (done.folder / "model.onnx").exists()
    assert verify("renamed/2", repository=repository)[0].comparisons["y"].ok


def test_an_ensemble_is_refused_and_its_parts_are_named(repository):
    tensors = {name: TensorSpec(name=name, dtype=dtype_of("FP32"), dims=(4,)) for name in ("x", "y")}
    spec = ModelSpec(name="joined", inputs=(tensors["x"],), outputs=(tensors["y"],), max_batch_size=8)
    steps = [EnsembleStep(model=name, inputs={"x": "x"}, outputs={"y": "y"}) for name in ("one", "two")]
    x = np.ones((2, 4), np.float32)
    publish_ensemble(spec, steps, example_inputs={"x": x}, answers={"y": x}, repository=repository)
    with pytest.raises(UsageError, match="is of format ensemble") as raised:
        optimise("joined", to="int8", repository=repository, **QUICK)
    assert "one by one: one, two" in raised.value.fix


def test_the_golden_answers_stay_those_of_the_trained_model_and_the_tolerance_says_why(repository, data):
    done = optimise("pictures", to="int8", repository=repository, data=data("pictures"), **QUICK)
    before, after = (evidences.read(repository / "pictures" / version)[1] for version in ("1", "2"))
    np.testing.assert_array_equal(before.outputs["y"], after.outputs["y"])
    proof, _ = evidences.read(done.folder)
    tolerance = proof.tolerances["y"]
    assert tolerance.kind == "measured" and "rounded to 8 bits" in tolerance.how
    assert proof.comparisons["y"].max_abs_error <= tolerance.max_abs / 2
    assert proof.batch_proof is not None and proof.batch_proof.proved


def test_the_manifest_says_from_what_and_how_it_was_made(repository, data):
    done = optimise(
        "pictures/1",
        to="int8",
        repository=repository,
        data=data("pictures"),
        options=Options(calibration="percentile", per_channel=False),
        **QUICK,
    )
    facts = manifests.read(done.folder).facts
    assert facts["optimised_from"] == "pictures/1" and facts["optimised_to"] == "int8"
    assert len(facts["optimised_from_sha256"]) == len(facts["optimised_calibration_sha256"]) == 64
    assert facts["optimised_calibration_method"] == "percentile" and "per tensor" in facts["optimised_weights"]
    assert json.loads(facts["optimised_scores"])[0]["metric"] == "top-1 agreement"
    assert "Made from pictures/1" in (done.folder / "card.md").read_text()
    assert (done.folder / "y_labels.txt").read_text().split() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("model", "first"), [("memory", "int8-dynamic"), ("pictures", "int8"), ("pictures", "fp16")])
def test_what_is_in_smaller_numbers_already_is_not_optimised_again(repository, data, model, first):
    optimise(model, to=first, repository=repository, data=data(model), **QUICK)
    with pytest.raises(ConversionError, match="in smaller numbers already"):
        optimise(f"{model}/2", to="fp16", repository=repository, data=data(model), **QUICK)
    assert version_numbers(repository, model) == [1, 2]


def test_layers_get_their_precision_back_until_the_drop_is_allowed(repository, data):
    file = data("uneven")
    plain = optimise(
        "uneven", to="int8", repository=repository, data=file, options=Options(max_drop=1.0, per_channel=False), **QUICK
    )
    assert plain.scores[0].drop > 0.05 and "optimised_layers_excluded" not in plain.facts
    done = optimise(
        "uneven/1",
        to="int8",
        repository=repository,
        data=file,
        options=Options(max_drop=0.05, per_channel=False),
        **QUICK,
    )
    assert done.scores[0].drop <= 0.05
    assert "first (" in done.facts["optimised_layers_excluded"], "with its error"
    assert done.facts["optimised_layers_quantised"] in ("1 of 3", "2 of 3")
    assert any("left in float32" in note for note in done.notes)
    assert any("only 48 samples were scored" in note for note in done.notes)


@pytest.mark.parametrize("model", ["overflowing", "ending_large"])
def test_operators_that_overflow_in_float16_stay_in_float32(repository, data, model):
    done = optimise(model, to="fp16", repository=repository, data=data(model), anyway=True, **QUICK)
    assert done.scores[0].after > 0.95
    assert "large" in done.facts["optimised_operators_in_float32"] and done.facts["optimised_made_for"] == "gpu"
    assert any("for GPUs" in note for note in done.notes)


@pytest.mark.parametrize(
    ("model", "to", "options", "error", "words"),
    [
        ("plain", "int8", {}, ConversionError, "no layer with weights"),
        ("pictures", "int8-dynamic", {}, ConversionError, "Conv"),
        ("memory", "int8", {}, ConversionError, "LSTM"),
        ("pictures", "int9", {}, UsageError, "int9"),
        ("pictures", "int8", {"calibration": "guess"}, UsageError, "guess"),
        ("pictures", "fp16", {"max_drop": 2.0}, UsageError, "2 % is written 0.02"),
        ("pictures", "fp16", {"max_drop": -1.0}, UsageError, "max_drop -1.0 is below 0"),
        ("pictures", "int8", {"exclude": ("nothing",)}, UsageError, "first, second, last"),
    ],
)
def test_what_cannot_be_is_one_clear_error_and_nothing_is_published(repository, data, model, to, options, error, words):
    with pytest.raises(error) as raised:
        optimise(model, to=to, repository=repository, data=data(model), options=Options(**options), **QUICK)
    assert words in str(raised.value)
    nothing_published(repository, model)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rows": 5}, "at least 8 are needed"),
        ({"dims": (3, 8, 9)}, "'x' has shape [96, 3, 8, 9]"),
        ({"z": np.zeros(96)}, "the model has no input 'z'"),
    ],
)
def test_calibration_data_that_does_not_fit_is_refused(repository, data, given, words):
    with pytest.raises(ExampleInputError) as raised:
        optimise("pictures", to="int8", repository=repository, data=data("pictures", **given), **QUICK)
    assert words in str(raised.value)
    nothing_published(repository, "pictures")


def test_what_has_no_upper_end_may_drop_by_more_than_one(repository, data):
    file = data("overflowing", labels=np.random.default_rng(2).standard_normal((96, 4)))
    how = {"options": Options(max_drop=1.5), "anyway": True, **QUICK}
    done = optimise("overflowing", to="fp16", repository=repository, evaluation=str(file), **how)
    assert (done.scores[0].metric, done.allowed_drop) == ("r2", 1.5)


def test_too_few_golden_inputs_do_not_calibrate(repository):
    with pytest.raises(ExampleInputError, match="to optimise pictures/1 with"):
        optimise("pictures", to="int8", repository=repository, **QUICK)


def test_what_is_neither_smaller_nor_faster_is_not_published(repository, data, capsys):
    """But for --anyway; what it costs is said in words, not as a gain below one."""
    words = ["optimise", "slight", "--to", "int8", "--data", str(data("slight")), "--repository", str(repository)]
    words += ["--rounds", "3", "--seconds", "0.1"]
    assert main(words) == 20
    told = capsys.readouterr().err
    assert "int8 makes slight/1 neither smaller nor faster: it is" in told and "--anyway" in told
    assert "x larger, " in told and "x slower (" in told and "bytes became" in told
    nothing_published(repository, "slight")
    assert main([*words, "--anyway"]) == 0
    shown = capsys.readouterr().out
    assert "published slight version 2" in shown and "x larger" in shown and "x slower" in shown
    assert main([*words, "--anyway", "--budget", "agreement >= 0.5"]) == 2
    assert "--anyway is given with --budget" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("smaller", "faster", "more", "gains"),
    [(1.1, 0.5, 0.5, True), (0.5, 1.1, 0.5, True), (0.5, 0.5, 1.1, True), (1.0, 1.0, 0.9, False)],
)
def test_any_gain_is_one_that_was_seen_in_each_round(smaller, faster, more, gains):
    side = Side(size_bytes=1, latency_ms=1.0, rows_per_s=1.0)
    ratios = {"faster": Spread(median=2.0, low=faster, high=3.0), "more": Spread(median=2.0, low=more, high=3.0)}
    rest = {"batch": 8, "sessions": 1, "threads": 1, "rounds": 3, "how": "", "raw": ()}
    assert Measured(before=side, after=side, smaller=smaller, **ratios, **rest).gains is gains


def test_names_of_classes_do_for_a_model_that_has_labels(repository, data):
    names = np.array(["a", "b", "c", "d"])
    options = Options(max_drop=0.2)
    scored = [
        optimise(
            "pictures/1",
            to="fp16",
            repository=repository,
            evaluation=str(data("pictures", labels=labels)),
            options=options,
            **QUICK,
        ).scores
        for labels in (names[np.arange(96) % 4], np.arange(96) % 4)
    ]
    assert scored[0] == scored[1] and scored[0][0].metric == "accuracy"


def test_a_model_that_loses_too_much_is_not_published(repository, data):
    with pytest.raises(VerificationError) as raised:
        optimise(
            "memory",
            to="int8-dynamic",
            repository=repository,
            data=data("memory", rows=3000),
            options=Options(max_drop=0.0),
            **QUICK,
        )
    assert "would lose too much" in str(raised.value)
    nothing_published(repository, "memory")


def nothing_published(repository, model):
    assert version_numbers(repository, model) == [1]
    assert not [*(state_folder(repository) / "staging").iterdir()]


def test_the_command_prints_a_table_or_json(repository, data, capsys):
    words = ["optimise", "memory", "--to", "int8-dynamic", "--rounds", "1", "--seconds", "0.01"]
    assert main([*words, "--repository", str(repository)]) == 0
    shown = capsys.readouterr().out
    assert "x smaller" in shown and "latency, one row" in shown and "top-1 agreement" in shown
    assert main([*words, "--repository", str(repository), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["version"] == 3 and told["measured"]["smaller"] > 2 and told["scores"]


def test_what_the_last_layer_gives_is_not_quantised(repository, data):
    """Scores beyond the range of the calibration samples must not all become the same."""
    done = optimise("pictures", to="int8", repository=repository, data=data("pictures"), **QUICK)
    graph = onnx.load(done.folder / "model.onnx").graph
    (last,) = (node for node in graph.node if node.name == "last")
    assert [node.op_type for node in graph.node if last.output[0] in node.input] == ["Softmax"]
