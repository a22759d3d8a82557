"""What must not reach Triton is refused; what only looks odd is left alone."""

from __future__ import annotations

import pytest

from modelport.errors import InvalidNameError, ModelNotFoundError
from modelport.server import model_folder

SPECIFIC = "version_policy { specific { versions: [ 3 ] } }"
TOO_LONG = ["9" * 20, "9223372036854775808", "9" * 20 + ".tmp", "+" + "9" * 20, "-9223372036854775809", " " + "9" * 30]
ODD = ["3.tmp", "0", "-1", "+1", " 1", "-x", "2147483648", "9223372036854775807"]


def put(root, name="m", config=SPECIFIC, folders=("3",)):
    for folder in folders:
        (root / name / folder).mkdir(parents=True)
    (root / name / "config.pbtxt").write_text(config)


def test_a_model_without_a_folder_is_not_found_and_the_others_are_named(tmp_path):
    put(tmp_path, "other")
    with pytest.raises(ModelNotFoundError) as caught:
        model_folder.check_model(tmp_path, "absent")
    assert "other" in caught.value.fix


@pytest.mark.parametrize("version", TOO_LONG)
def test_a_number_that_ends_the_server_is_refused_whatever_the_policy(tmp_path, version):
    put(tmp_path, folders=("3", version))
    with pytest.raises(InvalidNameError, match="version number of more than 64 bits"):
        model_folder.check_model(tmp_path, "m")


@pytest.mark.parametrize("version", [*ODD, "003", "0" * 25])
def test_odd_folders_beside_a_policy_that_names_its_versions_are_left_alone(tmp_path, version):
    put(tmp_path, folders=("3", version))
    model_folder.check_model(tmp_path, "m")


@pytest.mark.parametrize("config", ["", "version_policy { all { } }", f"# {SPECIFIC}", "version_policy: { latest {} }"])
@pytest.mark.parametrize("version", [name for name in ODD if name not in ("0", "-x")])
def test_without_such_a_policy_a_folder_that_counts_as_a_version_is_refused(tmp_path, version, config):
    put(tmp_path, config=config, folders=("3", version))
    with pytest.raises(InvalidNameError, match="version"):
        model_folder.check_model(tmp_path, "m")


def test_a_policy_is_found_in_any_of_its_spellings(tmp_path):
    put(
        tmp_path,
        config="version_policy: {\n  # those that serve\n  specific: { versions: 3 }\n}",
        folders=("3", "3.tmp"),
    )
    model_folder.check_model(tmp_path, "m")


def test_right_versions_other_folders_and_files_are_accepted(tmp_path):
    put(tmp_path, config="", folders=("1", "2147483647", "initial_state", "warmup"))
    (tmp_path / "m" / "3.tmp").touch()
    model_folder.check_model(tmp_path, "m")


@pytest.mark.parametrize("place", ["m", "m/1"])
@pytest.mark.parametrize("dangling", [True, False])
def test_a_file_that_triton_would_execute_is_refused(tmp_path, place, dangling):
    put(tmp_path, folders=("1",))
    stub = tmp_path / place / model_folder.STUB
    if dangling:
        stub.symlink_to(tmp_path / "nowhere")
    else:
        stub.touch()
    with pytest.raises(InvalidNameError, match=model_folder.STUB):
        model_folder.check_model(tmp_path, "m")


def test_a_trial_model_is_checked_like_the_model_that_it_is_a_trial_of(tmp_path):
    put(tmp_path, "m.trial")
    model_folder.check_model(tmp_path, "m.trial")
    for name in ("a;id.trial", "m.trial.trial", ".trial"):
        with pytest.raises(InvalidNameError, match="model name"):
            model_folder.check_model(tmp_path, name)


def test_a_start_leaves_out_only_the_models_that_must_not_be_loaded(tmp_path):
    for name in ("a", "b", "c"):
        put(tmp_path, name)
    (tmp_path / "b" / ("9" * 20)).mkdir()
    good, refused = model_folder.usable(tmp_path, None)
    assert good == ["a", "c"] and set(refused) == {"b"}
    assert model_folder.usable(tmp_path, ["c"]) == (["c"], {})
    assert model_folder.usable(tmp_path, []) == ([], {})
    with pytest.raises(InvalidNameError, match="64 bits"):
        model_folder.usable(tmp_path, ["b"])
    with pytest.raises(ModelNotFoundError):
        model_folder.usable(tmp_path, ["a", "absent"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match="holds no model"):
        model_folder.usable(tmp_path / "empty", None)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ('name: "m"\nbackend: "pytorch"\n', "pytorch"),
        ("backend : 'onnxruntime' # as before: backend: \"python\"", "onnxruntime"),
        ('# backend: "pytorch"\nplatform: "ensemble"', ""),
        ('parameters { key: "my_backend: " }', ""),
    ],
)
def test_the_backend_is_read_from_the_configuration(tmp_path, config, named):
    (tmp_path / "config.pbtxt").write_text(config)
    assert model_folder.backend(tmp_path) == named


def test_a_model_without_a_configuration_names_no_backend(tmp_path):
    assert model_folder.backend(tmp_path) == ""
