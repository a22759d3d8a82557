"""`modelport plan` divides the cores among the models that are served, and writes that and nothing else."""

from __future__ import annotations

import json
import shutil

import pytest

from modelport.cli import main
from modelport.commands.plan import EQUAL, GIVEN, plan
from modelport.errors import UsageError
from modelport.repository import config as configs
from modelport.repository.layout import config_path
from modelport.server import cores


@pytest.fixture
def models(shelve, shelf):
    """`models("a", b=function)`: models that have a version to serve; `function` changes the configuration."""
    shelve()
    shutil.move(shelf / "net", shelf.parent / "pattern")

    def act(*names, **others):
        for name, change in {**dict.fromkeys(names, lambda _: None), **others}.items():
            shutil.copytree(shelf.parent / "pattern", shelf / name)
            config = configs.read(config_path(shelf, name))
            config.name = name
            change(config)
            config_path(shelf, name).write_text("# the owner's own words\n" + configs.text(config))
        return shelf

    return act


def backend(name):
    return lambda config: setattr(config, "backend", name)


def given(found):
    return {row.model: (row.instances, row.threads) for row in found.rows}


def test_twelve_models_on_two_cores_get_one_thread_each(models):
    root = models(*"abcdefghijkl")
    found = plan(root, total=2)
    assert found.cores == 2 and found.weights == EQUAL
    assert given(found) == dict.fromkeys("abcdefghijkl", (1, 1))


@pytest.mark.parametrize("total", [1, 2, 3, 5, 8, 64])
def test_a_plan_is_within_the_cores(models, total):
    """What models have of their own together, and any of the others by itself."""
    root = models("a", "b", "c", d=lambda config: setattr(config.instance_group[0], "count", 7), e=backend("python"))
    for weights in (None, {"a": 8}, {"d": 20, "e": 5}, {"a": 0, "b": 0}):
        rows = plan(root, total=total, weights=weights).rows
        assert sum(row.instances * row.threads for row in rows if row.own) <= total
        assert all(row.instances * row.threads == 1 for row in rows if not row.own)


def test_without_a_number_it_is_about_the_cores_that_this_process_may_use(models):
    found = plan(models("a"))
    assert found.cores == cores.usable()
    assert given(found) == {"a": (1, cores.usable())}


def test_weights_decide_how_much_a_model_gets(models):
    found = plan(models("a", "b"), total=8, weights={"a": 3})
    assert found.weights == GIVEN and given(found) == {"a": (1, 6), "b": (1, 2)}
    assert [row.model for row in found.rows] == ["a", "b"]


@pytest.mark.parametrize("weights", [{"nope": 1}, {"a": -1}, {"a": float("nan")}, {"a": float("inf")}])
def test_weights_that_cannot_be_used_are_one_clear_error(models, weights):
    with pytest.raises(UsageError) as caught:
        plan(models("a"), weights=weights)
    assert next(iter(weights)) in caught.value.what


def test_what_has_no_instances_to_plan_is_left_out_with_the_reason(models):
    root = models("a", group=lambda config: config.instance_group.add(count=1), gpu=backend("tensorrt"))
    found = plan(root, total=2)
    assert [row.model for row in found.rows] == ["a"]
    assert "2 instance groups" in found.left_out["group"] and "tensorrt" in found.left_out["gpu"]


def test_it_is_written_and_everything_else_stays(models):
    root = models("a")
    before = configs.read(config_path(root, "a"))
    found = plan(root, total=1, write=True)
    after = configs.read(config_path(root, "a"))
    assert found.written == ("a",)
    assert after.parameters["intra_op_thread_count"].string_value == "1" and after.instance_group[0].count == 1
    del after.parameters["intra_op_thread_count"]
    assert after == before
    assert "# the owner's own words" in config_path(root, "a").read_text()
    again = plan(root, total=1, write=True)
    assert again.written == () and not again.rows[0].changes


def test_a_plan_for_more_cores_than_there_are_is_shown_and_not_written(models):
    root = models("a")
    text = config_path(root, "a").read_text()
    assert plan(root, total=cores.usable() + 1).rows[0].threads == cores.usable() + 1
    with pytest.raises(UsageError):
        plan(root, total=cores.usable() + 1, write=True)
    with pytest.raises(UsageError):
        plan(root, total=0)
    assert config_path(root, "a").read_text() == text


def test_the_command_prints_a_table_and_json(models, capsys):
    root = str(models("a", "b"))
    assert main(["plan", "--repository", root, "--cores", "4", "--weights", "a=3, b=1"]) == 0
    shown = capsys.readouterr().out
    assert "4 cores to divide" in shown and "3.00 cores: 3 of its own" in shown and "--write changes a, b" in shown
    assert main(["plan", "--repository", root, "--cores", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["model"], row["instances"], row["threads"]) for row in found["rows"]] == [("a", 1, 2), ("b", 1, 2)]


def test_a_weight_that_is_no_number_is_one_clear_error(models, capsys):
    assert main(["plan", "--repository", str(models("a")), "--weights", "a=much"]) != 0
    assert "'a=much' is no weight" in capsys.readouterr().err
