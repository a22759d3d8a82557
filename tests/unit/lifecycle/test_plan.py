"""What a promotion or a rollback leads to: which versions are loaded, what of the configuration changes and returns."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from modelport.errors import ManifestError, RepositoryError, VersionNotFoundError
from modelport.lifecycle.plan import newest_candidate, plan, present, require_checked, way_back
from modelport.repository import config as configs
from modelport.repository import drops, placed, switch
from modelport.repository.route import Route, Share


@pytest.fixture
def now(repository):
    return lambda: present(repository, "net")


@pytest.fixture
def to(now, carry_out):
    """`to(2)`, `to(1, back=True)`: plan it from how the model stands, carry it out, and give the plan."""

    def act(target, *, back=False, unload_old=False, ready=None):
        before = now()
        todo = plan(before, target, back=back, unload_old=unload_old, ready=before.loaded if ready is None else ready)
        carry_out(todo)
        assert now().serving == target and now().loaded == todo.loaded
        return todo

    return act


def routed(shares, **fields):
    return Route(shares=tuple(Share(target=t, percent=p) for t, p in shares.items()), **fields)


@pytest.fixture
def edit(repository):
    """`edit(config=change, **record fields)`: what the model's owner does."""

    def act(change=lambda _: None, **fields):
        config, known = switch.read(repository, "net")
        change(config)
        switch.write(repository, "net", config, dataclasses.replace(known, **fields))

    return act


# Which version


def test_the_newest_candidate_is_the_highest_that_never_served(release, now, to):
    release()
    with pytest.raises(VersionNotFoundError, match="no candidate to promote"):
        newest_candidate(now())
    assert [release(), release()] == [2, 3]
    assert newest_candidate(now()) == 3
    to(3)
    with pytest.raises(VersionNotFoundError, match="no candidate"):
        newest_candidate(now())  # 2 never served, and is older than what serves
    to(1, back=True)
    with pytest.raises(VersionNotFoundError, match="no candidate"):
        newest_candidate(now())  # 3 served, and was taken back
    release()
    assert newest_candidate(now()) == 4


def test_a_refused_drop_and_a_folder_without_manifest_are_no_candidates(release, now, repository):
    for _ in range(3):
        release()
    drops.refuse(repository, "net", 3, "a reason")
    (repository / "net" / "7").mkdir()
    assert newest_candidate(now()) == 2


def test_what_was_copied_in_is_promoted_only_after_it_was_found_good(release, now, to, repository):
    release()
    release()
    shutil.copytree(repository / "net" / "2", repository / "net" / "3")
    path = repository / "net" / "3" / "manifest.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 3'))
    assert newest_candidate(now()) == 2
    to(2)
    with pytest.raises(VersionNotFoundError, match="no candidate") as nothing:
        newest_candidate(now())
    assert "version 3 is unchecked" in nothing.value.why and "modelport list net" in nothing.value.fix
    with pytest.raises(ManifestError, match="copied in and is not checked yet"):
        require_checked(now(), 3)
    drops.refuse(repository, "net", 3, "it has other tensors")
    with pytest.raises(ManifestError, match="was refused") as caught:
        require_checked(now(), 3)
    assert caught.value.why == "it has other tensors" and "modelport adopt net/3" in caught.value.fix
    placed.note(repository, "net", 3, repository / "net" / "3")
    drops.forget(repository, "net", 3)
    require_checked(now(), 3)
    assert newest_candidate(now()) == 3


def test_the_first_version_may_be_a_candidate(release, now, to):
    release(candidate=True)
    assert now().serving is None and newest_candidate(now()) == 1
    assert to(1).loaded == (1,)
    with pytest.raises(VersionNotFoundError, match="no version to go back to"):
        way_back(now())


def test_the_way_back_skips_versions_that_are_gone(release, now, to, repository):
    for number in range(1, 4):
        release()
        to(number)
    assert way_back(now()) == 2
    (repository / "net" / "2").rename(repository / "elsewhere")
    assert way_back(now()) == 1
    (repository / "net" / "1").rename(repository / "elsewhere" / "1")
    with pytest.raises(VersionNotFoundError) as caught:
        way_back(now())
    assert caught.value.why == "none that served before version 3 is known and still there"


# What is loaded


def test_the_version_before_stays_loaded_and_those_before_it_do_not(release, to):
    for _ in range(3):
        release()
    assert to(2).loaded == (1, 2)
    assert to(3).loaded == (2, 3)


def test_the_version_before_is_taken_out_when_that_is_asked_for(release, to):
    release()
    release()
    assert to(2, unload_old=True).loaded == (2,)


def test_going_back_takes_the_higher_version_out(release, to):
    release()
    release()
    to(2)
    assert to(1, back=True).loaded == (1,)


def test_promoting_a_lower_number_takes_the_higher_version_out(release, to, now):
    release()
    release()
    to(2)
    assert to(1).loaded == (1,) and now().record.way_back == (2,)


def test_a_version_with_an_alias_stays_loaded(release, to, edit):
    for _ in range(4):
        release()
    edit(aliases={"stable": 1})
    assert to(2).loaded == (1, 2)
    todo = to(3)
    assert todo.loaded == (1, 2, 3) and todo.moved == ()
    assert to(4, unload_old=True).loaded == (1, 4)


def test_an_alias_of_a_version_that_is_taken_out_moves_to_the_target(release, to, edit, now):
    release()
    release()
    to(2)
    edit(aliases={"canary": 2, "stable": 1})
    todo = to(1, back=True)
    assert (todo.loaded, todo.moved) == ((1,), ("canary",))
    assert now().record.aliases == {"canary": 1, "stable": 1}


def test_a_version_that_the_route_names_stays_loaded(release, to, edit, now):
    for _ in range(3):
        release()
    to(1)
    to(2)
    edit(route=routed({"1": 90, "2": 10}))
    assert to(3).loaded == (1, 2, 3)
    assert now().record.route == routed({"1": 90, "2": 10})


def test_what_the_route_gave_to_a_version_that_is_taken_out_goes_to_the_target(release, to, edit, now):
    for _ in range(3):
        release()
    to(1)
    to(2)
    to(3)
    edit(route=routed({"2": 60, "3": 40}, shadow="3"), aliases={"old": 1})
    to(1, back=True)
    assert now().loaded == (1,) and now().record.route == Route()
    to(2)
    edit(route=routed({"old": 50, "2": 50}))
    assert now().loaded == (1, 2)
    to(1, back=True)
    assert now().record.route == routed({"old": 50, "1": 50})


def test_versions_that_do_not_answer_are_not_kept(release, to):
    """All versions of the policy load, or none: one that does not load now must not be named beside the target."""
    release()
    release()
    assert to(2, ready=()).loaded == (2,)


def test_promoting_what_serves_changes_nothing(release, to, repository):
    release()
    release()
    to(2)
    before = (repository / "net" / "config.pbtxt").stat()
    todo = to(2)
    assert todo.loaded == (1, 2) and todo.moved == () and todo.labels == {}
    assert (repository / "net" / "config.pbtxt").stat() == before
    assert to(2, unload_old=True).loaded == (2,)


# The record


def test_what_served_is_the_way_back_and_what_was_taken_back_is_not(release, to, now):
    for number in range(1, 4):
        release()
        to(number)
    assert now().record.way_back == (1, 2)
    to(2, back=True)
    assert (now().record.way_back, now().record.retired) == ((1,), (3,))
    to(3)
    assert (now().record.way_back, now().record.retired) == ((1, 2), ())
    to(1, back=True)
    assert (now().record.way_back, now().record.retired) == ((), (2, 3))


# The configuration


def test_a_version_brings_its_parameters_and_takes_them_along(release, to, now):
    release(parameters={"a": "1"})
    release(parameters={"a": "2", "b": "3"})
    to(2)
    assert parameters(now()) == {"a": "2", "b": "3"}
    to(1, back=True)
    assert parameters(now()) == {"a": "1"}
    assert now().record.kept.parameters == {}


def test_what_the_owner_set_comes_back(release, to, now, edit):
    release(instance_count=1)

    def owner(config):
        config.instance_group[0].count = 4
        config.max_batch_size = 16
        config.parameters["mine"].string_value = "yes"

    edit(owner)
    release(batch=64, instance_count=2, parameters={"mine": "no"}, asked=["max_batch_size", "instance_group"])
    release()
    to(2)
    assert settings(now()) == (64, [2], {"mine": "no"})
    to(3)
    assert settings(now()) == (16, [4], {"mine": "yes"})
    to(2, back=True)
    assert settings(now()) == (64, [2], {"mine": "no"})
    to(1, back=True)
    assert settings(now()) == (16, [4], {"mine": "yes"})


def test_what_the_owner_changed_since_then_stays(release, to, now, edit):
    release()
    release(batch=64, instance_count=2, parameters={"a": "1"}, asked=["max_batch_size", "instance_group"])
    to(2)

    def owner(config):
        config.instance_group[0].count = 3
        config.max_batch_size = 8
        config.parameters["a"].string_value = "7"

    edit(owner)
    to(1, back=True)
    assert settings(now()) == (8, [3], {"a": "7"})


def test_what_a_version_did_not_ask_for_is_the_owners(release, to, now):
    release(batch=16, instance_count=3)
    release(batch=64, instance_count=1)
    to(2)
    assert settings(now()) == (16, [3], {})


def test_labels_come_with_a_version_and_go_with_it(release, to, now, repository):
    release(labels=["cat", "dog"])
    release(labels=["Katze", "Hund"])
    path = repository / "net" / "y_labels.txt"
    todo = to(2)
    assert path.read_text() == "Katze\nHund\n"
    assert (todo.loaded, todo.unfit) == ((2,), (1,)), "with other labels, version 1's answers would mean something else"
    to(1, back=True)
    assert path.read_text() == "cat\ndog\n"


def test_labels_that_come_later_are_gone_after_going_back(release, to, now):
    release()
    release(labels=["cat", "dog"])
    to(2)
    assert now().config.output[0].label_filename == "y_labels.txt"
    to(1, back=True)
    assert now().config.output[0].label_filename == ""


def test_a_version_without_labels_has_those_of_its_time(release, to, repository):
    release(labels=["cat", "dog"])
    release()
    release(labels=["Katze", "Hund"])
    path = repository / "net" / "y_labels.txt"
    assert to(2).loaded == (1, 2)
    assert path.read_text() == "cat\ndog\n"
    assert to(3).loaded == (3,)
    assert path.read_text() == "Katze\nHund\n"
    to(2, back=True)
    assert path.read_text() == "cat\ndog\n"


@pytest.mark.parametrize(
    ("second", "stays"),
    [
        ({}, True),
        ({"instance_count": 2, "asked": ["instance_group"]}, True),
        ({"batch": 64, "asked": ["max_batch_size"]}, True),
        ({"parameters": {"threshold": "0.5"}}, False),
        ({"labels": ["Katze", "Hund"]}, False),
        ({"labels": ["cat", "dog"]}, True),
    ],
)
def test_a_version_stays_loaded_only_where_its_answers_stay_the_same(release, to, second, stays):
    release(labels=["cat", "dog"])
    release(**second)
    todo = to(2)
    assert (todo.loaded == (1, 2)) is stays
    assert todo.unfit == (() if stays else (1,))


def test_other_steps_of_an_ensemble_do_not_go_with_the_version_before(release, to):
    def steps(name):
        def edit(config):
            config.ClearField("instance_group")
            config.ClearField("dynamic_batching")
            config.platform = configs.ENSEMBLE
            config.ensemble_scheduling.step.add(model_name=name, model_version=-1)

        return edit

    release(backend="", filename="", edit=steps("one"))
    release(backend="", filename="", edit=steps("one"))
    release(backend="", filename="", edit=steps("two"))
    assert to(2).loaded == (1, 2)
    assert to(3).loaded == (3,)
    assert to(2, back=True).config.ensemble_scheduling.step[0].model_name == "one"


def test_a_label_file_outside_the_folders_is_not_read(release, to, repository, now):
    release()
    release()
    (repository / "net" / "2" / "config.pbtxt").write_text(configs.text(labelled(now().config, "../../../secret.txt")))
    (repository.parent / "secret.txt").write_text("secret")
    assert plan(now(), 2, back=False, unload_old=False, ready=(1,)).labels == {}


def labelled(config, name):
    config = type(config).FromString(config.SerializeToString())
    config.output[0].label_filename = name
    return config


def test_a_version_with_other_tensors_cannot_be_promoted(release, now, repository):
    release()
    release()
    path = repository / "net" / "2" / "config.pbtxt"
    path.write_text(path.read_text().replace('"x"', '"other"'))
    with pytest.raises(RepositoryError, match="other tensors"):
        plan(now(), 2, back=False, unload_old=False, ready=(1,))


def test_a_version_of_which_no_configuration_is_kept_is_served_with_the_models(release, to, now, repository):
    release(parameters={"a": "1"})
    release(parameters={"b": "2"})
    (repository / "net" / "2" / "config.pbtxt").unlink()
    to(2)
    assert parameters(now()) == {"a": "1"}


def test_the_serving_version_may_be_damaged(release, to, now, repository):
    release()
    release(parameters={"a": "1"})
    to(2)
    (repository / "net" / "2" / "config.pbtxt").write_text("{{{")
    to(1, back=True)
    assert parameters(now()) == {}


def parameters(model):
    return {key: value.string_value for key, value in model.config.parameters.items()}


def settings(model):
    return model.config.max_batch_size, [g.count for g in model.config.instance_group], parameters(model)
