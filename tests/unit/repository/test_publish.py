"""Publishing: numbers go on, the owner's settings stay, and whatever fails leaves what was there before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from modelport.errors import InvalidNameError, ManifestError, RepositoryError
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.config import EnsembleStep
from modelport.repository.layout import config_path, state_folder, version_numbers
from modelport.repository.publish import publish, staged


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, and every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"<folder>"
        for path in folder.rglob("*")
    }


def config_of(repository: Path, name: str = "net"):
    return configs.read(config_path(repository, name))


def edit(repository: Path, change, name: str = "net") -> None:
    config = config_of(repository, name)
    change(config)
    config_path(repository, name).write_text(configs.text(config))


# --- what a publish makes --------------------------------------------------------------------------------------------


def test_a_version_is_a_folder_and_a_configuration_that_names_it(repository, release):
    done = release(labels={"y_labels.txt": ["cat", "dog"]}, label_files={"y": "y_labels.txt"})
    assert (done.model, done.version, done.folder) == ("net", 1, repository / "net" / "1")
    assert sorted(tree(repository)) == [
        "net", "net/1", "net/1/manifest.json", "net/1/model.onnx", "net/config.pbtxt", "net/y_labels.txt",
    ]  # fmt: skip
    assert configs.versions_of(config_of(repository)) == (1,)
    assert (repository / "net" / "y_labels.txt").read_text() == "cat\ndog\n"
    manifests.check_files(done.folder, manifests.read(done.folder))


def test_nothing_of_the_work_is_left_in_the_state_folder(repository, release):
    release()
    assert [p.name for p in (state_folder(repository) / "staging").iterdir()] == []


def test_versions_are_numbered_on(repository, release):
    assert [release().version for _ in range(3)] == [1, 2, 3]
    assert configs.versions_of(config_of(repository)) == (3,)
    (repository / "net" / "2").rename(repository / "aside")
    assert release().version == 4, "a number in the middle is not used again"


def test_the_number_of_a_removed_version_that_served_is_not_taken_again(repository, release):
    release(), release()
    shutil.rmtree(repository / "net" / "2")
    assert release().version == 3


def test_what_a_killed_export_left_long_ago_is_removed_and_what_is_new_stays(repository, release):
    release()
    staging = state_folder(repository) / "staging"
    for name, age_s in (("old", 200_000), ("new", 60)):
        (staging / name).mkdir()
        os.utime(staging / name, (time.time() - age_s,) * 2)
    release()
    assert {path.name for path in staging.iterdir()} == {"new"}


def test_folders_that_are_no_versions_do_not_count(repository, release):
    release()
    for name in ("7.tmp", "008", "notes"):
        (repository / "net" / name).mkdir()
    assert release().version == 2


def test_after_the_last_number_comes_an_error(repository, release):
    release()
    (repository / "net" / str(2**31 - 1)).mkdir()
    before = tree(repository)
    with pytest.raises(InvalidNameError, match="2147483648"):
        release()
    assert tree(repository) == before


def test_older_versions_are_not_touched(repository, release):
    first = release(content=b"one").folder
    stamp = (first / "model.onnx").stat()
    before = tree(first)
    release(content=b"two")
    assert tree(first) == before
    assert (first / "model.onnx").stat().st_ctime_ns == stamp.st_ctime_ns


def test_files_are_copies_with_one_name_each(repository, release):
    """No links, hard or symbolic: Triton takes a changed time for a changed model."""
    release()
    release()
    files = [path for path in repository.rglob("*") if not path.is_dir()]
    assert all(path.stat().st_nlink == 1 and not path.is_symlink() for path in files)


# --- what stays of the configuration ---------------------------------------------------------------------------------


def test_the_owners_settings_survive_the_next_version(repository, release):
    release()

    def own(config):
        config.instance_group[0].count = 3
        config.dynamic_batching.max_queue_delay_microseconds = 500
        config.dynamic_batching.preferred_batch_size.append(8)
        config.max_batch_size = 16
        config.parameters["intra_op_thread_count"].string_value = "2"
        config.optimization.graph.level = 1

    edit(repository, own)
    wanted = config_of(repository)
    release()
    configs.set_versions(wanted, [2])
    assert config_of(repository) == wanted


def test_what_was_asked_for_replaces_the_owners_setting(repository, release, make_spec):
    """And nothing else does."""
    release()

    def own(config):
        config.instance_group[0].count = 3
        config.instance_group[0].name = "mine"
        config.parameters["a"].string_value = "owner"
        config.parameters["b"].string_value = "owner"

    edit(repository, own)
    release(make_spec(batch=4), instance_count=5, parameters={"b": "asked"}, asked=("max_batch_size", "instance_group"))
    config = config_of(repository)
    assert (config.max_batch_size, config.instance_group[0].count, config.instance_group[0].name) == (4, 5, "mine")
    assert {key: value.string_value for key, value in config.parameters.items()} == {"a": "owner", "b": "asked"}


def test_labels_that_come_with_a_later_version_are_used(repository, release):
    release()
    release(labels={"y_labels.txt": ["a", "b"]}, label_files={"y": "y_labels.txt"})
    assert config_of(repository).output[0].label_filename == "y_labels.txt"
    release()
    assert config_of(repository).output[0].label_filename == "y_labels.txt", "they stay when none come"


def test_a_configuration_without_any_version_is_written_anew(repository, release):
    """Such as one that came with the sources of the project."""
    release()
    edit(repository, lambda config: config.ClearField("output"))
    for path in sorted((repository / "net" / "1").rglob("*"), reverse=True):
        path.unlink()
    (repository / "net" / "1").rmdir()
    assert release().version == 1
    assert len(config_of(repository).output) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": [("x", "FP64", (3,))]},
        {"inputs": [("x", "FP32", (4,))]},
        {"inputs": [("z", "FP32", (3,))]},
        {"inputs": [("x", "FP32", (3,)), ("z", "FP32", (3,))]},
        {"outputs": [("y", "FP32", (-1,))]},
        {"batch": 0},
    ],
    ids=["type", "size", "name", "one more", "varying", "no batch axis"],
)
def test_a_version_with_other_tensors_is_refused(repository, release, make_spec, make_tensor, change):
    """Callers of the model could not know."""
    release()
    before = tree(repository)
    options = {k: tuple(make_tensor(*t) for t in v) if k != "batch" else v for k, v in change.items()}
    with pytest.raises(RepositoryError, match="other tensors") as caught:
        release(make_spec(**options))
    assert "x: FP32[3]" in caught.value.why and "another model name" in caught.value.fix
    assert tree(repository) == before


def test_a_version_of_another_format_is_refused(repository, release):
    """The model's one configuration names one backend and one file: the new version could not load."""
    release()
    before = tree(repository)
    with pytest.raises(RepositoryError, match="another format") as caught:
        release(backend="pytorch", filename="model.pt")
    assert "onnxruntime model.onnx" in caught.value.why and "pytorch model.pt" in caught.value.why
    assert tree(repository) == before


def test_an_ensembles_new_steps_are_written(repository, make_spec):
    def ensemble(model: str):
        step = EnsembleStep(model=model, inputs={"x": "x"}, outputs={"y": "y"})
        with staged(repository, "net") as staging:
            config = configs.build_ensemble(make_spec(), [step], versions=[])
            return publish(repository, staging, config, finish=lambda folder, version: None)

    ensemble("one")
    ensemble("two")
    assert [step.model_name for step in config_of(repository).ensemble_scheduling.step] == ["two"]


def test_a_configuration_that_cannot_be_read_stops_the_next_version(repository, release):
    release()
    config_path(repository, "net").write_text("broken {")
    before = tree(repository)
    with pytest.raises(ManifestError):
        release()
    assert tree(repository) == before


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a;id", "$(x)", "../x", "a/b", "x" * 300, "a\u202eb", "", ".", "..", "a b", "-x", "003 "]
)
def test_a_name_that_breaks_the_rule_makes_nothing(tmp_path, repository, name):
    with pytest.raises(InvalidNameError), staged(repository, name):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "a;id", "models $(x)"])
def test_a_repository_path_that_breaks_the_rule_makes_nothing(tmp_path, name):
    with pytest.raises(InvalidNameError), staged(tmp_path / name, "net"):
        pass
    assert list(tmp_path.iterdir()) == []


# --- what fails ------------------------------------------------------------------------------------------------------


def test_a_failing_finish_leaves_nothing(repository, release, make_spec):
    def fail(folder: Path, version: int) -> None:
        (folder / "half").touch()
        raise ZeroDivisionError

    config = configs.build(make_spec(), backend="onnxruntime", filename="model.onnx", versions=[])
    for before in ({}, None):
        if before is None:
            release()
        before = tree(repository)
        with pytest.raises(ZeroDivisionError), staged(repository, "net") as staging:
            publish(repository, staging, config, finish=fail)
        assert tree(repository) == before
    assert list((state_folder(repository) / "staging").iterdir()) == []


@pytest.mark.parametrize("first", [True, False], ids=["the first version", "a later version"])
@pytest.mark.parametrize("obstacle", ["config.pbtxt", "y_labels.txt"])
def test_a_rename_that_fails_leaves_what_was_there(repository, release, first, obstacle):
    """A folder stands where the file should go, so that the rename of that one file fails."""
    if not first:
        release()
    blocker = repository / "net" / obstacle
    if blocker.exists():
        blocker.unlink()
    blocker.mkdir(parents=True)
    (blocker / "something").touch()
    before = tree(repository)
    with pytest.raises((RepositoryError, ManifestError)) as caught:
        release(labels={"y_labels.txt": ["a"]}, label_files={"y": "y_labels.txt"})
    assert caught.value.why and caught.value.fix
    assert tree(repository) == before


@pytest.mark.parametrize("where", ["repository", "state"])
def test_a_file_in_the_way_is_one_clear_error(tmp_path, repository, release, where):
    """Of the repository, or of its state folder."""
    (repository if where == "repository" else state_folder(repository)).write_text("a file")
    with pytest.raises(RepositoryError) as caught:
        release()
    assert str(repository) in caught.value.what and caught.value.why and caught.value.fix
    assert not (repository / "net").exists()


def test_a_first_version_that_fails_leaves_no_model_behind(repository, release):
    repository.mkdir()
    (repository / "net").touch()
    with pytest.raises(RepositoryError):
        release()
    assert tree(repository) == {"net": b""}


@pytest.fixture
def small_disk(tmp_path, require):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "modelport-test", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    require("the right to mount a tmpfs", present=mounted)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("first", [True, False], ids=["the first version", "a later version"])
def test_a_full_disk_leaves_what_was_there(small_disk, first, make_spec, make_manifest):
    """While the artefact is written, and while the rest is: every amount of free space is tried."""
    repository = small_disk / "models"
    config = configs.build(make_spec(), backend="onnxruntime", filename="model.onnx", versions=[])

    def release(size: int) -> None:
        with staged(repository, "net") as staging:
            (staging / "model.onnx").write_bytes(bytes(size))
            finish = lambda folder, n: manifests.write(folder, make_manifest(make_spec(), n, folder))  # noqa: E731
            publish(repository, staging, config, finish=finish)

    if not first:
        release(1000)
    filler = small_disk / "filler"
    outcomes = []
    for free_pages in range(0, 12):
        filler.write_bytes(b"")
        filler.write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096 - free_pages * 4096))
        before = tree(repository) if repository.exists() else {}
        try:
            release(9000)
        except RepositoryError as error:
            assert "No space left" in error.what and error.fix
            assert (tree(repository) if repository.exists() else {}) == before
            outcomes.append(False)
        else:
            assert configs.versions_of(config_of(repository)) == tuple(version_numbers(repository, "net")[-1:])
            outcomes.append(True)
            break
    assert outcomes[0] is False and outcomes[-1] is True and len(outcomes) > 3, (
        "it failed at several places, then worked"
    )


# --- at once ---------------------------------------------------------------------------------------------------------

PUBLISHER = """
import sys
from pathlib import Path
from modelport.repository import config as configs
from modelport.repository.publish import publish, staged
from modelport.spec import ModelSpec, TensorSpec, dtype_of
repository, count = Path(sys.argv[1]), int(sys.argv[2])
x = TensorSpec(name="x", dtype=dtype_of("FP32"), dims=(3,))
y = TensorSpec(name="y", dtype=dtype_of("FP32"), dims=(3,))
spec = ModelSpec(name="net", inputs=(x,), outputs=(y,), max_batch_size=8)
for _ in range(count):
    with staged(repository, "net") as staging:
        (staging / "model.onnx").write_text("weights")
        config = configs.build(spec, backend="onnxruntime", filename="model.onnx", versions=[])
        done = publish(repository, staging, config, finish=lambda folder, n: (folder / "number").write_text(str(n)))
        print(done.version, flush=True)
"""


def publisher(repository: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(PUBLISHER), str(repository), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_publishers_at_once_take_turns(repository):
    """Twenty versions, each number given once, each folder with its own; a reader never sees a half one."""
    seen: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            if not config_path(repository, "net").exists():
                continue
            for number in configs.versions_of(config_of(repository)):
                folder = repository / "net" / str(number)
                seen.append((folder / "number").read_text() + (folder / "model.onnx").read_text())
                assert seen[-1] == f"{number}weights"

    watcher = threading.Thread(target=watch)
    watcher.start()
    both = [publisher(repository, 10) for _ in range(2)]
    results = [process.communicate(timeout=60) for process in both]
    stop.set()
    watcher.join()
    assert [process.returncode for process in both] == [0, 0], results
    numbers = [int(line) for out, _ in results for line in out.split()]
    assert sorted(numbers) == list(range(1, 21)) == version_numbers(repository, "net")
    assert configs.versions_of(config_of(repository)) == (20,)
    assert seen and all((repository / "net" / str(n) / "number").read_text() == str(n) for n in numbers)


def test_a_publisher_that_is_killed_stops_nobody(repository, release, make_spec, make_tensor):
    process = publisher(repository, 100_000)
    assert process.stdout.readline() == "1\n"
    process.kill()
    process.communicate()
    named = configs.versions_of(config_of(repository))
    assert all((repository / "net" / str(n) / "model.onnx").read_text() == "weights" for n in named)
    spec = make_spec(batch=8, outputs=(make_tensor("y"),))
    assert release(spec).version == version_numbers(repository, "net")[-1]
