"""Repairs: what they do, that they can be undone, and that they touch nothing else."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from modelport.errors import RepositoryError
from modelport.repository import config as configs
from modelport.repository import lock, record
from modelport.repository.doctor import repair as repairs

POLICY = "version_policy { specific { versions: [ 1 ] } }"
GROUP = "instance_group { count: 2 kind: KIND_GPU }"


def kept(repo):
    """What was set aside: path below the repository -> path where it is now."""
    found = {}
    for stamp in (repo.state / repairs.SET_ASIDE).glob("*"):
        for folder, folders, files in os.walk(stamp):
            names = [*files, *(name for name in folders if not any(Path(folder, name).iterdir()))]
            found |= {Path(folder, name).relative_to(stamp).as_posix(): Path(folder, name) for name in names}
    return found


def kept_by_modelport(repo):
    repo.config(add=f'{record.NOTE}\n{record.MARK}{{"on_drop": "promote"}}\n')


def test_a_policy_that_follows_the_folders_stays_where_others_keep_the_model(repo, fix):
    """Whoever rolls out by copying a folder in would serve the old version for ever."""
    repo.config((POLICY, "version_policy { latest { num_versions: 2 } }"))
    assert fix(repo) == []


def test_a_corrected_configuration_keeps_its_permissions(repo, fix):
    path = repo.config(('"net"', '"other"'))
    path.chmod(0o640)
    assert len(fix(repo)) == 1 and path.stat().st_mode & 0o777 == 0o640


def test_an_empty_configuration_is_repaired_as_well(repo, fix):
    """As some exporters leave it, for the server to complete."""
    path = repo.file("net/config.pbtxt", "")
    (done,) = fix(repo)
    assert "backend-missing" in done and "instances-missing" in done and fix(repo) == []
    assert configs.read(path).backend == "onnxruntime"


def test_a_configuration_that_is_a_link_is_left_alone(repo, look, fix):
    """Such as one of a Kubernetes ConfigMap: a file in its place would be what nobody else changes any more."""
    path = repo.config(('"net"', '"other"'))
    elsewhere = path.rename(repo.root.parent / "config.pbtxt")
    path.symlink_to(elsewhere)
    assert {"config-name", "link"} <= {f.rule for f in look(repo)}
    assert fix(repo) == [] and path.is_symlink()


def test_a_corrected_configuration_keeps_its_comments_and_says_what_it_said(repo, fix):
    """All at once: name, policy, preferred sizes, instances; in Windows line ends, with a record of modelport's."""
    note = f'{record.NOTE}\n{record.MARK}{{"aliases": {{"stable": 1}}}}\n'
    path = repo.config(
        ('"net"', '"other"  # its name'),
        (POLICY, "version_policy { latest { num_versions: 1 } } # the newest"),
        ("  default_queue", "  # sizes that pay\n  preferred_batch_size: [ 4, 16, 8 ]\n  default_queue"),
        (GROUP + "\n", ""),
    )
    path.write_bytes((note + path.read_text()).replace("\n", "\r\n").encode())
    old = path.read_bytes()
    was = configs.read(path)
    (done,) = fix(repo)
    assert all(rule in done for rule in ("config-name", "batch-preferred", "policy-floating", "instances-missing"))
    text = path.read_bytes().decode()
    for comment in ("# a comment of its owner\r\n", "# its name", "# the newest", "  # sizes that pay\r\n"):
        assert comment in text
    assert record.parse(text, where=path).aliases == {"stable": 1}
    now = configs.read(path)
    assert now.name == "net" and list(now.version_policy.specific.versions) == [1]
    assert list(now.dynamic_batching.preferred_batch_size) == [4, 8]
    assert now.dynamic_batching.default_queue_policy.max_queue_size == 64
    assert [(g.count, g.kind) for g in now.instance_group] == [(1, 0)]
    for changed in ("name", "version_policy", "dynamic_batching", "instance_group"):
        now.ClearField(changed)
        was.ClearField(changed)
    assert now == was
    assert {name: path.read_bytes() for name, path in kept(repo).items()} == {"net/config.pbtxt": old}


def test_what_is_moved_is_kept_under_its_old_path(repo, fix):
    repo.file("notes/objects/a", "one")
    repo.file(".git/HEAD")
    repo.file("net/README.md", "two")
    repo.file("net/3.tmp/model.onnx", "three")
    repo.net.joinpath("gone").symlink_to("/nowhere")
    inode = (repo.net / "3.tmp" / "model.onnx").stat().st_ino
    done = fix(repo)
    assert len(done) == 4
    found = kept(repo)
    assert found.keys() == {"notes/objects/a", "net/README.md", "net/3.tmp/model.onnx"} | (found.keys() & {"net/gone"})
    assert (repo.root / ".git" / "HEAD").exists(), "somebody works with it"
    assert found["notes/objects/a"].read_text() == "one" and found["net/README.md"].read_text() == "two"
    assert found["net/3.tmp/model.onnx"].stat().st_ino == inode, "moved, not copied"
    assert any(os.path.lexists(stamp / "net" / "gone") for stamp in (repo.state / repairs.SET_ASIDE).iterdir())


def test_only_the_named_models_are_touched(repo, fix):
    repo.file(".git/HEAD")
    repo.file("net/README.md")
    repo.model("other")
    repo.file("other/README.md")
    assert len(fix(repo, names=["other"])) == 1
    assert (repo.root / ".git").exists() and (repo.net / "README.md").exists()


def test_without_anything_to_do_nothing_is_written(repo, fix):
    before = repo.bytes()
    assert fix(repo) == []
    assert repo.bytes() == before


def test_a_policy_is_written_as_triton_would_load_today(repo, fix):
    """All versions under `all`; the highest without a policy."""
    kept_by_modelport(repo)
    repo.model("net", config=None, versions=("2", "10"))
    repo.config((POLICY, "version_policy { all { } }"))
    fix(repo)
    assert list(configs.read(repo.net / "config.pbtxt").version_policy.specific.versions) == [1, 2, 10]
    repo.config(("version_policy { specific { versions: [ 1, 2, 10 ] } }", ""))
    fix(repo)
    assert list(configs.read(repo.net / "config.pbtxt").version_policy.specific.versions) == [10]


def test_a_folder_that_counts_as_a_version_goes_before_the_policy_is_written(repo, fix):
    kept_by_modelport(repo)
    (repo.net / "3.tmp").mkdir()
    repo.config((POLICY, ""))
    assert len(fix(repo)) == 2
    assert list(configs.read(repo.net / "config.pbtxt").version_policy.specific.versions) == [1]


def test_a_model_that_is_a_link_is_left_alone(repo, look, fix):
    """What it points to is not in the repository."""
    elsewhere = repo.root.parent / "elsewhere"
    repo.net.rename(elsewhere)
    repo.net.symlink_to(elsewhere)
    (elsewhere / "README.md").write_text("x")
    before = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    assert "stray-file" in {f.rule for f in look(repo)} and not any(f.fixable for f in look(repo))
    assert fix(repo) == []
    assert {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()} == before


def test_a_name_that_would_write_more_than_a_name_is_not_written(repo, fix):
    folder = repo.root / 'x" backend: "evil'
    repo.net.rename(folder)
    before = (folder / "config.pbtxt").read_bytes()
    assert fix(repo) == []
    assert (folder / "config.pbtxt").read_bytes() == before


def test_another_writer_is_waited_for(repo, fix):
    """Nothing is moved while somebody else holds the repository's lock."""
    stray = repo.file("net/README.md")
    with lock.writer(repo.root):
        worker = threading.Thread(target=fix, args=(repo,))
        worker.start()
        worker.join(0.3)
        assert worker.is_alive() and stray.exists()
    worker.join(30)
    assert not worker.is_alive() and not stray.exists()


def test_a_state_folder_that_cannot_be_is_an_error_and_changes_nothing(repo, fix):
    stray = repo.file("net/README.md")
    repo.state.write_text("a file is in the way")
    with pytest.raises(RepositoryError):
        fix(repo)
    assert stray.exists()
