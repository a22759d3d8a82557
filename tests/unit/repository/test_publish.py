"""Publishing: numbers go on, later versions are candidates, and whatever fails leaves what was there before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from modelport.errors import InvalidNameError, ManifestError, RepositoryError
from modelport.repository import config as configs
from modelport.repository import lock, switch
from modelport.repository import manifest as manifests
from modelport.repository.layout import config_path, state_folder, version_numbers
from modelport.repository.publish import clean_staging, publish, staged
from modelport.repository.record import Record
from modelport.repository.versions import loaded_versions


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, and every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"<folder>"
        for path in folder.rglob("*")
    }


def times(folder: Path) -> dict[str, int]:
    """When every file below a folder was changed."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def config_of(repository: Path, name: str = "net"):
    return configs.read(config_path(repository, name))


def left(repository: Path) -> list[str]:
    """What lies in staging and in the journal."""
    folders = [state_folder(repository) / name for name in ("staging", "journal")]
    return [path.name for folder in folders if folder.exists() for path in folder.iterdir()]


def edit(repository: Path, change, name: str = "net") -> None:
    config = config_of(repository, name)
    change(config)
    config_path(repository, name).write_text(configs.text(config))


# --- what a publish makes --------------------------------------------------------------------------------------------


def test_a_version_is_a_folder_and_a_configuration_that_names_it(repository, release):
    done = release(labels={"y_labels.txt": ["cat", "dog"]}, label_files={"y": "y_labels.txt"})
    assert (done.model, done.version, done.folder) == ("net", 1, repository / "net" / "1")
    assert sorted(tree(repository)) == [
        "net", "net/1", "net/1/config.pbtxt", "net/1/manifest.json", "net/1/model.onnx", "net/1/y_labels.txt",
        "net/config.pbtxt", "net/y_labels.txt",
    ]  # fmt: skip
    assert configs.versions_of(config_of(repository)) == (1,)
    assert (repository / "net" / "y_labels.txt").read_text() == "cat\ndog\n"
    manifests.check_files(done.folder, manifests.read(done.folder))


def test_who_waits_for_another_operation_on_the_model_is_told_for_whom(repository, release):
    """A promotion may take minutes."""
    begun, go, said = threading.Event(), threading.Event(), []

    def hold() -> None:
        with lock.model(repository, "net"):
            begun.set()
            assert go.wait(30)

    def report(text: str) -> None:
        said.append(text)
        go.set()

    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(10)
    assert release(report=report).version == 1
    thread.join()
    [line] = said
    assert line.startswith(f"waiting: model 'net' is being changed by process {os.getpid()} (")


def test_a_version_holds_the_configuration_and_the_labels_it_was_made_with(repository, release, make_spec):
    """Promoting it takes them from there; its own policy names itself alone."""
    release()
    options = {"labels": {"y_labels.txt": ["a", "b"]}, "label_files": {"y": "y_labels.txt"}}
    folder = release(make_spec(batch=4), instance_count=3, parameters={"k": "v"}, **options).folder
    own = configs.read(folder / "config.pbtxt")
    assert (own.max_batch_size, own.instance_group[0].count, own.parameters["k"].string_value) == (4, 3, "v")
    assert own.output[0].label_filename == "y_labels.txt" and configs.versions_of(own) == (2,)
    assert (folder / "y_labels.txt").read_text() == "a\nb\n"
    assert {"config.pbtxt", "y_labels.txt"} <= set(manifests.read(folder).files)


def test_the_first_version_serves_and_later_ones_are_candidates(repository, release):
    assert [release().serving for _ in range(3)] == [True, False, False]
    assert loaded_versions(repository, "net") == (1,)


def test_a_candidate_leaves_the_model_as_it_is(repository, release):
    """Byte for byte, and in time: Triton takes a newer time for a changed model."""
    release(labels={"y_labels.txt": ["cat", "dog"]}, label_files={"y": "y_labels.txt"})
    before, stamps = tree(repository), times(repository / "net")
    release(
        labels={"y_labels.txt": ["a", "b"]},
        label_files={"y": "y_labels.txt"},
        instance_count=4,
        asked=("instance_group",),
    )
    after = tree(repository)
    assert {name: after[name] for name in before} == before
    assert {name: times(repository / "net")[name] for name in stamps} == stamps
    assert set(after) - set(before) == {
        "net/2", "net/2/config.pbtxt", "net/2/manifest.json", "net/2/model.onnx", "net/2/y_labels.txt",
    }  # fmt: skip


def test_also_a_first_version_can_be_a_candidate(repository, release):
    """A policy without any version loads nothing; what comes next is a candidate as well."""
    assert release(candidate=True).serving is False
    assert config_of(repository).version_policy.HasField("specific")
    assert loaded_versions(repository, "net") == ()
    assert release().serving is False and loaded_versions(repository, "net") == ()


@pytest.mark.parametrize(
    ("policy", "loaded"),
    [
        ("", (3,)),
        ("version_policy { latest { num_versions: 2 } }", (2, 3)),
        ("version_policy { all { } }", (1, 2, 3)),
        ("version_policy { specific { versions: [ 1, 3 ] } }", (1, 3)),
        ("version_policy { specific { versions: [ 1, 9 ] } }", (1,)),
    ],
    ids=["none", "latest", "all", "specific", "one that is missing"],
)
def test_what_is_loaded_stays_loaded_whatever_its_owners_policy_was(repository, release, policy, loaded):
    """With any other policy than `specific`, Triton would serve the new folder as soon as it is there."""
    for _ in range(3):
        release()
    path = config_path(repository, "net")
    config = config_of(repository)
    config.ClearField("version_policy")
    path.write_text(f"# mine\n{configs.text(config)}{policy}\n")
    before, time_ns = path.read_bytes(), path.stat().st_mtime_ns
    done = release()
    assert done.serving is False and done.version == (10 if "9" in policy else 4)
    assert loaded_versions(repository, "net") == loaded and path.read_text().startswith("# mine\n")
    if "specific" in policy:
        assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, time_ns)
    else:
        assert configs.versions_of(config_of(repository)) == loaded
        config.ClearField("version_policy")
        changed = config_of(repository)
        changed.ClearField("version_policy")
        assert changed == config, "nothing else changes"


def test_nothing_of_the_work_is_left_in_the_state_folder(repository, release):
    release()
    assert left(repository) == []


def test_versions_are_numbered_on(repository, release):
    assert [release().version for _ in range(3)] == [1, 2, 3]
    (repository / "net" / "2").rename(repository / "aside")
    assert release().version == 4, "a number in the middle is not used again"


@pytest.mark.parametrize(
    "known",
    [Record(highest=7), Record(way_back=(7,)), Record(retired=(2, 7)), Record(highest=2, way_back=(1, 7))],
    ids=["deleted", "served before", "retired", "several"],
)
def test_the_number_of_a_removed_version_is_not_given_again(repository, release, known):
    release()
    config, _ = switch.read(repository, "net")
    switch.write(repository, "net", config, known)
    assert release().version == 8
    assert switch.read(repository, "net")[1] == known


def test_the_number_of_a_removed_version_that_serves_is_not_given_again(repository, release):
    release(), release()
    edit(repository, lambda config: configs.set_versions(config, [1, 2]))
    shutil.rmtree(repository / "net" / "2")
    assert release().version == 3


def test_a_file_in_the_place_of_the_next_version_is_passed_over(repository, release):
    release()
    (repository / "net" / "2").touch()
    (repository / "net" / "3").symlink_to("nowhere")
    assert release().version == 4


OWNER = """
import sys, time
from pathlib import Path
from modelport.repository.publish import staged
with staged(Path(sys.argv[1]), "net") as folder:
    (folder / "half").touch()
    print(folder.parent.name, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_export_left_is_removed_at_once_and_what_a_living_one_has_is_not(repository, release):
    """However old or new it is: the lock on it tells."""
    release()
    staging = state_folder(repository) / "staging"
    (staging / "net-odd").mkdir()
    (staging / "file.tmp").touch()
    owners = [
        subprocess.Popen([sys.executable, "-c", OWNER, str(repository)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        living, dead = [owner.stdout.readline().strip() for owner in owners]
        os.utime(staging / living, (0, 0))
        owners[1].kill()
        owners[1].wait(20)
        assert sorted(clean_staging(repository)) == sorted([dead, "net-odd", "file.tmp"])
        assert left(repository) == [living] and (staging / living / "version" / "half").exists()
        release()
        assert left(repository) == [living], "a publish cleans as well, and leaves the same alone"
    finally:
        for owner in owners:
            owner.kill()
            owner.communicate()
    release()
    assert left(repository) == []


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


# --- a model's configuration, and what does not fit it ---------------------------------------------------------------


def test_a_configuration_without_any_version_is_written_anew(repository, release):
    """Such as one that came with the sources of the project."""
    release()
    edit(repository, lambda config: config.ClearField("output"))
    shutil.rmtree(repository / "net" / "1")
    config_path(repository, "net").write_text("# ours\n" + config_path(repository, "net").read_text())
    done = release()
    assert (done.version, done.serving) == (1, True)
    assert len(config_of(repository).output) == 1 and configs.versions_of(config_of(repository)) == (1,)
    assert config_path(repository, "net").read_text().startswith("# ours\n"), "comments stay"


def test_a_configuration_that_came_with_the_project_and_fits_is_not_touched(repository, release):
    """Building the sample models leaves the checkout as it was."""
    options = {"labels": {"y_labels.txt": ["a", "b"]}, "label_files": {"y": "y_labels.txt"}}
    release(**options)
    shutil.rmtree(repository / "net" / "1")
    before, stamps = tree(repository), times(repository)
    assert release(**options).version == 1
    assert {name: tree(repository)[name] for name in before} == before
    assert {name: times(repository)[name] for name in stamps} == stamps


def test_a_first_version_that_is_to_be_a_candidate_is_taken_out_of_the_projects_configuration(repository, release):
    release()
    shutil.rmtree(repository / "net" / "1")
    assert loaded_versions(repository, "net") == () and configs.versions_of(config_of(repository)) == (1,)
    assert release(candidate=True).serving is False
    assert loaded_versions(repository, "net") == ()


def test_folders_without_any_configuration_get_one(repository, release):
    """Such as were copied by hand: what was exported last is the first version that anything is known of."""
    (repository / "net" / "3").mkdir(parents=True)
    done = release()
    assert (done.version, done.serving) == (4, True) and loaded_versions(repository, "net") == (4,)


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


@pytest.mark.parametrize("text", ["broken {", "# modelport: {broken", "\udcff"])
@pytest.mark.parametrize("first", [True, False], ids=["the first version", "a later version"])
def test_a_configuration_that_cannot_be_read_stops_the_next_version(repository, release, text, first):
    release()
    if first:
        shutil.rmtree(repository / "net" / "1")
    config_path(repository, "net").write_text(text, errors="surrogateescape")
    before = tree(repository)
    with pytest.raises(ManifestError) as caught:
        release()
    assert "config.pbtxt" in caught.value.what and caught.value.why and caught.value.fix
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
    assert left(repository) == []


@pytest.mark.parametrize("obstacle", ["config.pbtxt", "y_labels.txt", "z_labels.txt"])
def test_a_rename_that_fails_leaves_what_was_there(repository, release, obstacle):
    """A folder stands where a file of the first version should go: those that came before it are put back."""
    release()
    shutil.rmtree(repository / "net" / "1")
    (repository / "net" / "y_labels.txt").write_bytes(b"old\r\n\xff")
    blocker = repository / "net" / obstacle
    blocker.unlink(missing_ok=True)
    blocker.mkdir()
    (blocker / "something").touch()
    before = tree(repository)
    labels = {"y_labels.txt": ["a"], "z_labels.txt": ["b"]}
    with pytest.raises(RepositoryError) as caught:
        release(labels=labels, label_files={"y": "y_labels.txt"})
    assert caught.value.why and caught.value.fix
    assert tree(repository) == before and left(repository) == []


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
            assert version_numbers(repository, "net")[-1] == (1 if first else 2)
            assert loaded_versions(repository, "net") == (1,)
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
            for number in version_numbers(repository, "net") if config_path(repository, "net").exists() else ():
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
    assert loaded_versions(repository, "net") == (1,)
    assert seen and all((repository / "net" / str(n) / "number").read_text() == str(n) for n in numbers)


def test_a_publisher_that_is_killed_stops_nobody(repository, release, make_spec, make_tensor):
    process = publisher(repository, 100_000)
    assert process.stdout.readline() == "1\n"
    process.kill()
    process.communicate()
    numbers = version_numbers(repository, "net")
    assert all((repository / "net" / str(n) / "number").read_text() == str(n) for n in numbers)
    spec = make_spec(batch=8, outputs=(make_tensor("y"),))
    assert release(spec).version == version_numbers(repository, "net")[-1]
