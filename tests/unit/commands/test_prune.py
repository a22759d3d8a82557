"""Old versions are deleted, never one that is needed; no number comes back; a kill leaves a version whole or gone."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import pytest

from modelport.commands.prune import prune
from modelport.errors import ManifestError, ModelNotFoundError, RepositoryError, UsageError
from modelport.optimise import unfinished
from modelport.recipes import stored, weights
from modelport.repository import drops, events, placed, switch
from modelport.repository.route import Route, Share


@pytest.fixture(autouse=True)
def eight(shelve, stand):
    """Versions 1 to 8 of `net`: 6 serves, 5 is loaded, 3 has an alias, 2 is the way back, 1, 4, 7 and 8 are free."""
    for version in range(1, 9):
        shelve(content=b"x" * version)
    stand([5, 6], way_back=(1, 2), retired=(4,), aliases={"old": 3}, tags={4: ("a",), 5: ("b",)})


@pytest.fixture
def there(shelf):
    """`there()`: the versions that have a folder."""
    return lambda: sorted(int(path.name) for path in (shelf / "net").iterdir() if path.is_dir())


def test_what_is_needed_stays_and_is_said_why(shelf, there):
    done = prune("net", keep=0, repository=shelf)
    assert list(done.deleted) == [1, 4, 7, 8] and there() == [2, 3, 5, 6]
    assert {v: why.split(",")[0] for v, why in done.kept.items()} == {
        2: "a rollback goes to it",
        3: "alias old",
        5: "loaded",
        6: "serves",
    }


def test_a_version_that_the_route_names_stays(shelf, stand):
    stand([5, 6], route=Route(shares=(Share(target="4", percent=100.0),), shadow="7"))
    kept = prune("net", keep=0, repository=shelf).kept
    assert {v: why for v, why in kept.items() if v in (4, 7)} == dict.fromkeys((4, 7), "its route names it")


@pytest.mark.parametrize(("keep", "deleted"), [(0, [1, 4, 7, 8]), (1, [1, 4, 7]), (3, [1]), (4, []), (100, [])])
def test_the_newest_of_the_others_stay(shelf, there, keep, deleted):
    """`keep` counts beside the versions that are needed anyway, and candidates count as well."""
    done = prune("net", keep=keep, repository=shelf)
    assert list(done.deleted) == deleted and there() == [v for v in range(1, 9) if v not in deleted]
    assert sorted([*done.deleted, *done.kept]) == list(range(1, 9))


def test_what_is_told_of_a_deleted_version_is_its_size(shelf):
    size = sum(path.stat().st_size for path in (shelf / "net" / "8").iterdir())
    done = prune("net", keep=0, repository=shelf)
    assert done.deleted[8] == size


def test_what_is_kept_beside_a_version_goes_with_it(shelf):
    """The weights and samples that it was built with, and work on it that was interrupted."""

    def of(version):
        half_done = unfinished.folder(shelf, f"net/{version}", "pruned", {}) / "training.pt"
        return [weights.path_of(shelf, "net", version), stored.path_of(shelf, "net", version), half_done]

    for path in (*of(4), *of(5)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    prune("net", keep=0, repository=shelf)
    assert [path.exists() for path in (*of(4), *of(5))] == 3 * [False] + 3 * [True]


def test_a_dry_run_touches_nothing(shelf, there):
    before = (shelf / "net" / "config.pbtxt").read_text()
    done = prune("net", keep=1, dry_run=True, repository=shelf)
    assert list(done.deleted) == [1, 4, 7] and done.dry_run
    assert there() == list(range(1, 9)) and (shelf / "net" / "config.pbtxt").read_text() == before
    assert prune("net", keep=1, repository=shelf).deleted == done.deleted, "and then it happens as it was told"


def test_no_number_comes_back(shelf, shelve, there):
    prune("net", keep=0, repository=shelf)
    assert shelve().name == "9"
    prune("net", keep=0, repository=shelf)
    assert there() == [2, 3, 5, 6] and shelve().name == "10"


def test_the_record_forgets_what_is_gone(shelf):
    prune("net", keep=0, repository=shelf)
    known = switch.read(shelf, "net")[1]
    assert (known.way_back, known.retired, dict(known.tags), known.highest) == ((2,), (), {5: ("b",)}, 8)
    assert dict(known.aliases) == {"old": 3}
    (event,) = (event for event in events.latest(shelf, 99) if event.kind == "pruned")
    assert event.model == "net" and event.facts["versions"] == [1, 4, 7, 8]


def test_nothing_is_left_outside_the_repository(shelf):
    prune("net", keep=0, repository=shelf)
    assert not list((shelf.parent / "shelf.state" / "staging").iterdir())


def test_with_nothing_to_delete_nothing_is_written(shelf):
    inode = (shelf / "net" / "config.pbtxt").stat().st_ino
    prune("net", keep=9, repository=shelf)
    assert (shelf / "net" / "config.pbtxt").stat().st_ino == inode


def test_a_folder_that_may_still_be_copied_in_stays_and_a_refused_one_goes(shelf, there):
    for version in (9, 10):
        (shelf / "net" / str(version)).mkdir()
        (shelf / "net" / str(version) / "model.onnx").write_bytes(b"half")
    drops.refuse(shelf, "net", 10, "it is cut off")
    shutil.copytree(shelf / "net" / "8", shelf / "net" / "11")  # with a manifest, and nobody has looked at it
    done = prune("net", keep=0, repository=shelf)
    assert "copied in" in done.kept[9] and "copied in" in done.kept[11]
    assert 10 in done.deleted and there() == [2, 3, 5, 6, 9, 11]
    assert not list((shelf.parent / "shelf.state" / "drops" / "net").iterdir())


def test_broken_versions_take_nobodys_place(shelf, there):
    (shelf / "net" / "4" / "model.onnx").unlink()
    (shelf / "net" / "10").mkdir()
    for version in (7, 10):
        drops.refuse(shelf, "net", version, "it is cut off")
    done = prune("net", keep=1, repository=shelf)
    assert "1 newest" in done.kept[8] and "newer than all" in done.kept[10]
    assert set(done.deleted) == {1, 4, 7} and there() == [2, 3, 5, 6, 8, 10]


def test_the_target_of_a_link_is_not_deleted(shelf, tmp_path, there):
    shutil.copytree(shelf / "net" / "8", tmp_path / "elsewhere")
    (shelf / "net" / "9").symlink_to(tmp_path / "elsewhere")
    placed.note(shelf, "net", 9, shelf / "net" / "9")
    prune("net", keep=0, repository=shelf)
    assert there() == [2, 3, 5, 6] and (tmp_path / "elsewhere" / "model.onnx").exists()


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda shelf: prune("net", keep=-1, repository=shelf), UsageError),
        (lambda shelf: prune("nope", keep=1, repository=shelf), ModelNotFoundError),
    ],
)
def test_what_cannot_be_is_one_clear_error(shelf, act, error):
    with pytest.raises(error) as caught:
        act(shelf)
    assert caught.value.why and caught.value.fix


@pytest.mark.parametrize("text", ["broken {", "# modelport: {\n"])
def test_nothing_is_deleted_where_nobody_knows_what_serves(shelf, there, text):
    path = shelf / "net" / "config.pbtxt"
    path.write_text(text + path.read_text())
    with pytest.raises(ManifestError):
        prune("net", keep=0, repository=shelf)
    assert there() == list(range(1, 9))


def test_without_a_version_that_serves_the_newest_stay(shelf, stand, there):
    stand([])
    prune("net", keep=2, repository=shelf)
    assert there() == [7, 8]


def test_what_the_disk_refuses_is_one_clear_error_and_deletes_nothing(shelf, there):
    staging = shelf.parent / "shelf.state" / "staging"
    shutil.rmtree(staging)
    staging.write_text("in the way")
    with pytest.raises(RepositoryError):
        prune("net", keep=0, repository=shelf)
    assert there() == list(range(1, 9))


KILLED = """
import os, signal, sys
from pathlib import Path
from modelport.commands.prune import prune
rename, unlink, at = os.rename, os.unlink, int(sys.argv[2])
count = 0
def counted(act):
    def call(*args, **more):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return act(*args, **more)
    return call
for name in ("rename", "replace", "unlink", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
prune("net", keep=2, repository=Path(sys.argv[1]))
"""


def test_a_kill_leaves_every_version_whole_or_gone(shelf, shelve, tmp_path):
    """Killed before each rename and each deletion in turn; the next prune finishes, and no number comes back."""
    killed = 0
    for at in range(1, 200):
        copy = tmp_path / str(at) / "shelf"
        shutil.copytree(shelf, copy)
        done = subprocess.run([sys.executable, "-c", KILLED, copy, str(at)], capture_output=True, text=True)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed += 1
        for version in (path for path in (copy / "net").iterdir() if path.is_dir()):
            assert len(list(version.iterdir())) == 3, f"{version} is whole"
        assert {"2", "3", "5", "6"} <= {path.name for path in (copy / "net").iterdir()}
        assert switch.read(copy, "net")[0].version_policy.specific.versions == [5, 6]
        prune("net", keep=2, repository=copy)
        left = ["2", "3", "5", "6", "7", "8", "config.pbtxt"]
        assert sorted(path.name for path in (copy / "net").iterdir()) == left
        known = switch.read(copy, "net")[1]
        assert (known.highest, known.way_back, known.retired, dict(known.tags)) == (8, (2,), (), {5: ("b",)})
        assert not list((copy.parent / "shelf.state" / "staging").iterdir())
    assert killed > 8
