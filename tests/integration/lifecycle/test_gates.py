"""Evaluating served models, and gates at a promotion: what passes, what is refused, and what is then left as it was."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import modelport
from modelport.cli import main
from modelport.commands.evaluate import evaluate
from modelport.commands.gate import gate
from modelport.errors import DataError, GateError, UsageError, VersionNotFoundError
from modelport.evaluate import gate_data, stored
from modelport.repository import config as configs
from modelport.repository import events, switch
from modelport.repository.gate import Gate

ROWS = 100
RULE = Gate(metric="accuracy", min=0.5, max_drop=0.02)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A model that answers [value, x0] is right where it says whether x0 is above one half: value 0.5 is perfect."""
    path = tmp_path_factory.mktemp("data") / "rows.npz"
    x = np.linspace(0.005, 0.995, ROWS, dtype=np.float32)
    sides = np.where(x < 0.25, "low", "rest")
    np.savez(path, x=np.stack([x, x], axis=1), labels=(x > 0.5).astype(int), slice_side=sides)
    return path


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_served_version_is_scored_and_that_is_kept_with_it(shelf, server, net, data, tmp_path, protocol):
    """The running server answers for what it has loaded; a candidate is served by a temporary one, or at a URL."""
    done = evaluate(net, data=str(data), protocol=protocol, repository=shelf.root, report=tmp_path / "r.html")
    assert (done.version, done.server, done.protocol) == (1, "the repository's running server", protocol)
    assert done.scores.scores["accuracy"].value == pytest.approx(0.5), "version 1 always answers class 0"
    assert done.scores.confusion == ((50, 0), (50, 0))
    groups = {one.value: (one.rows, one.scores["accuracy"].value) for one in done.scores.slices}
    assert groups == {"low": (25, 1.0), "rest": (75, pytest.approx(1 / 3))}
    page = (tmp_path / "r.html").read_text()
    assert all(words in page for words in ("Confusion matrix", "ROC", "low", done.data_sha256)) and "src=" not in page
    url = server.grpc_url if protocol == "grpc" else server.http_url
    assert evaluate(f"{net}/1", data=str(data), url=url, repository=shelf.root).scores == done.scores
    kept = stored.read(shelf.root, net, 1)[stored.EVALUATIONS]
    assert len(kept) == 1 and kept[0]["scores"]["scores"]["accuracy"]["value"] == 0.5, "the same data counts once"
    manifest = shelf.root / net / "1" / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    assert stored.read(shelf.root, net, 1)[stored.EVALUATIONS] == [], "it is another version now"


def test_a_table_with_names_of_classes_is_scored_by_the_models_labels(shelf, server, net, data, tmp_path, capsys):
    """The columns' own names say nothing to the model, so it is told where each went."""
    (shelf.root / net / "answers.txt").write_text("low\nhigh\n")
    config, record = switch.read(shelf.root, net)
    config.output[0].label_filename = "answers.txt"
    switch.write(shelf.root, net, config, record)
    rows = np.load(data)
    lines = [f"{a},{b},{'high' if label else 'low'}" for (a, b), label in zip(rows["x"], rows["labels"], strict=True)]
    table = tmp_path / "rows.csv"
    table.write_text("\n".join(["left,right,labels", *lines]) + "\n")
    words = ["evaluate", f"{net}/1", "--data", str(table), "--metric", "accuracy", "--repository", str(shelf.root)]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "columns by their order, not their names: left, right -> x[0] to x[1]" in told and "0.5 [" in told
    table.write_text(table.read_text().replace("high", "higher"))
    assert main(words) == 61
    assert "'higher' (row 51) is none of the labels of the output 'y': low, high" in capsys.readouterr().err


def test_the_version_that_serves_here_is_asked_for_by_its_number(shelf, server, net, data, tmp_path):
    """A server that has another one, or divides its calls, must not answer in its name."""
    shelf.publish(net, value=0.5)
    copy = tmp_path / "model_repository"
    shutil.copytree(shelf.root / net, copy / net)
    config, record = switch.read(copy, net)
    configs.set_versions(config, (2,))
    switch.write(copy, net, config, record)
    with pytest.raises(VersionNotFoundError):
        evaluate(net, data=str(data), url=server.http_url, repository=copy)
    assert stored.read(copy, net, 2)[stored.EVALUATIONS] == []


def test_a_candidate_is_scored_in_a_temporary_server(shelf, server, net, data, capsys):
    shelf.publish(net, value=0.5)
    code = main(["evaluate", f"{net}/2", "--data", str(data), "--json", "--repository", str(shelf.root)])
    said = json.loads(capsys.readouterr().out)
    assert code == 0 and said["version"] == 2 and said["server"] == "a temporary server"
    assert said["scores"]["scores"]["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert server.ready_versions(net) == (1,)


def test_a_gate_refuses_a_worse_version_and_lets_a_better_one_serve(shelf, server, net, data, ask, untouched, capsys):
    """The whole way: a rule, a better version, a spoiled one that is refused, one that is let in with a reason."""
    before = switch.read(shelf.root, net)[1]
    state = gate(net, RULE, data=str(data), repository=shelf.root)
    assert (state.gates, state.data, state.rows) == ((RULE,), "rows.npz", ROWS)
    shelf.publish(net, value=0.5)
    done = modelport.promote(net, repository=shelf.root)
    assert done.version == 2 and done.judged == ("accuracy 1 [1, 1]; drop -0.5 [-0.6, -0.4], from 0.5",)
    shelf.publish(net, value=0.45)  # wrong in five rows of a hundred, which is above the least value
    with pytest.raises(GateError, match=r"accuracy drops by 0.05 \[0.01, 0.09\]") as caught:
        modelport.promote(net, repository=shelf.root)
    assert "version 2 on the same rows" in caught.value.why and "version 2 serves on" in caught.value.why
    untouched(server, net, (1, 2))
    assert ask(server, net) == 0.5
    assert f"'modelport promote {net}/3 --override" in caught.value.fix
    assert main(["promote", f"{net}/3", "--override", "the old one leaks", "--repository", str(shelf.root)]) == 0
    assert ask(server, net) == pytest.approx(0.45)
    results = [one["result"] for v in (2, 3) for one in stored.read(shelf.root, net, v)[stored.JUDGEMENTS]]
    assert results == ["passed", "refused", "overridden"]
    assert stored.read(shelf.root, net, 3)[stored.JUDGEMENTS][-1]["words"] == "the old one leaks"
    assert main(["show", f"{net}/3", "--json", "--repository", str(shelf.root)]) == 0
    shown = json.loads(capsys.readouterr().out.partition("loaded: version")[2].partition("\n")[2])
    assert shown["gates"] == ["accuracy >= 0.5, accuracy drop <= 0.02"]
    assert [one["result"] for one in shown["judgements"]] == ["refused", "overridden"]
    kinds = [event.kind for event in events.latest(shelf.root, 9) if event.model == net]
    assert {"gate_passed", "gate_refused", "gate_overridden"} <= {*kinds}
    assert modelport.rollback(net, repository=shelf.root).version == 2, "a way back needs no gate"
    with pytest.raises(GateError):
        modelport.promote(net, 3, repository=shelf.root)
    gate(net, Gate(metric="f1", min=0.5), repository=shelf.root)
    assert gate(net, remove="f1", repository=shelf.root).gates == (RULE,)
    assert gate(net, remove="accuracy", repository=shelf.root).gates == () == before.gates


def test_a_loaded_version_is_judged_where_it_is(shelf, server, net, data):
    """A version that served and is still loaded is asked by its number; no trial is needed."""
    shelf.publish(net, value=0.5)
    modelport.promote(net, repository=shelf.root)
    gate(net, RULE, data=str(data), repository=shelf.root)
    with pytest.raises(GateError):
        modelport.promote(net, 1, repository=shelf.root)
    assert server.ready_versions(net) == (1, 2)


@pytest.mark.parametrize(
    ("rule", "arrays", "error", "words"),
    [
        (RULE, None, DataError, "no evaluation data"),
        (Gate(metric="r2", min=0.5), {}, UsageError, "the metric r2 does not fit"),
        (Gate(metric="accuracy"), {}, UsageError, "no gate for accuracy"),
        (Gate(metric="mae", min=0.5), {}, UsageError, "no gate for mae"),
        (RULE, {"x": np.zeros((ROWS, 3), np.float32)}, DataError, "does not fit the model"),
        (RULE, {"z": np.zeros((ROWS, 2), np.float32)}, DataError, "does not fit the model"),
        (RULE, {"labels": np.full(ROWS, 0.5)}, UsageError, "the metric accuracy does not fit"),
    ],
)
def test_a_gate_that_cannot_be_is_refused_and_nothing_changes(shelf, data, tmp_path, rule, arrays, error, words):
    net = f"ruled{len(list(shelf.root.iterdir()))}"
    shelf.publish(net)
    before = (shelf.root / net / "config.pbtxt").read_bytes()
    file = None
    if arrays is not None:
        file = tmp_path / "wrong.npz"
        np.savez(file, **{**np.load(data), **arrays})
    with pytest.raises(error, match=words) as caught:
        gate(net, rule, data=file and str(file), repository=shelf.root)
    assert caught.value.why and caught.value.fix
    assert (shelf.root / net / "config.pbtxt").read_bytes() == before
    assert not gate_data.exists(shelf.root, net)


def test_gates_whose_data_is_gone_refuse_every_promotion(shelf, server, net, data, ask, untouched):
    gate(net, RULE, data=str(data), repository=shelf.root)
    gate_data.path(shelf.root, net).unlink()
    shelf.publish(net, value=0.5)
    with pytest.raises(DataError, match="have no evaluation data"):
        modelport.promote(net, repository=shelf.root)
    untouched(server, net, (1,))
    assert ask(server, net) == 1
    with pytest.raises(UsageError, match="without a reason"):
        modelport.promote(net, repository=shelf.root, override=" ")
