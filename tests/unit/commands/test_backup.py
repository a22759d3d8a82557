"""A backup is whole whoever writes meanwhile, is nobody else's to read, and comes back only as it was published."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import stat
import tarfile
import threading

import pytest

from modelport.commands import keys
from modelport.commands.backup import backup, restore
from modelport.commands.listing import list_models
from modelport.errors import ManifestError, RepositoryError
from modelport.repository import journal, lock
from modelport.repository.layout import state_folder
from modelport.usage.store import Store

LINE = (
    '{"flags":"-","grpc_status":"","id":"1","inferences":"1","kind":"infer","model":"scores","passed":"1",'
    '"received_bytes":1,"sent_bytes":1,"status":200,"tenant":"acme","time":"2026-03-04T05:06:07.890Z","us":"1",'
    '"version":"1"}\n'
)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def saved(repository, tmp_path):
    """A backup of the repository."""
    backup(tmp_path / "saved.tar", repository=repository)
    return tmp_path / "saved.tar"


@pytest.mark.parametrize("name", ["all.tar", "all.tar.gz", "all.tar.xz", "all.tgz"])
def test_what_comes_back_is_what_was_there(repository, tmp_path, name):
    made = keys.create("acme", ["scores"], repository=repository)
    done = backup(tmp_path / name, repository=repository)
    assert done.models == {"mixing": (1,), "scores": (1, 2), "traced": (1,)} and done.left_out == ()
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, "it holds the keys that sign"

    elsewhere = tmp_path / "elsewhere" / "models"
    elsewhere.parent.mkdir()
    again = restore(tmp_path / name, repository=elsewhere)
    assert (again.models, again.files, again.created) == (done.models, done.files, done.created)
    assert files(elsewhere) == files(repository)
    assert list_models(elsewhere) == list_models(repository)
    assert [row.id for row in keys.list_keys(repository=elsewhere)] == [made.key.id]
    assert keys.create("acme", ["scores"], repository=elsewhere).token, "the key that signs is there"
    private = state_folder(elsewhere) / "gateway"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in private.rglob("*.json")} == {0o600}


def test_what_was_logged_and_not_counted_yet_is_counted_first(repository, tmp_path):
    """The service is stopped, or had no time to; the log stays behind with the machine."""
    log = state_folder(repository) / "gateway" / "access.log"
    log.parent.mkdir(parents=True)
    log.write_text(LINE)
    backup(tmp_path / "saved.tar", repository=repository)
    restore(tmp_path / "saved.tar", repository=tmp_path / "models")
    with Store(tmp_path / "models") as store:
        assert [sums.answered for _, sums in store.sums(("tenant",), "2026-03-01", "2026-03-31")] == [1]


def test_counts_that_are_damaged_are_saved_as_they_are(repository, tmp_path):
    log, counts = (
        state_folder(repository) / "gateway" / "access.log",
        state_folder(repository) / "usage" / "usage.sqlite",
    )
    for path, text in ((log, LINE), (counts, "no database, and longer than its header has to be" * 9)):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    done = backup(tmp_path / "saved.tar", repository=repository)
    assert done.models, "the rest is worth saving"


def test_logs_locks_and_sockets_of_what_runs_are_not_in_it(repository, tmp_path):
    state = state_folder(repository)
    for name in (
        "logs/serve.log",
        "runs/1.json",
        "gateway/access.log",
        "gateway/access.log.1",
        "gateway/followed/gate.json",
    ):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text("passing")
    (state / "kept").mkdir()
    (state / "kept" / "file").write_text("lasting")
    backup(tmp_path / "saved.tar", repository=repository)
    with tarfile.open(tmp_path / "saved.tar") as archive:
        names = [name for name in archive.getnames() if name.startswith("state/")]
        assert b"passing" not in b"".join(archive.extractfile(one).read() for one in archive if one.isreg())
    assert "state/kept/file" in names
    assert not any("lock" in name for name in names)


def test_a_database_that_is_being_written_is_copied_whole(repository, tmp_path):
    """With its write-ahead log, which is not in the file itself yet; in a folder whose name says something in a URI."""
    repository = repository.rename(tmp_path / "models?mode=memory#%41")
    path = state_folder(repository) / "usage" / "counts.sqlite"
    path.parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(path)) as writing:
        writing.execute("PRAGMA journal_mode=WAL")
        writing.execute("CREATE TABLE used (count INTEGER)")
        with writing:
            writing.execute("INSERT INTO used VALUES (42)")
        assert b"used" not in path.read_bytes()[:100] and path.with_name("counts.sqlite-wal").stat().st_size > 0
        backup(tmp_path / "saved.tar", repository=repository)
    restore(tmp_path / "saved.tar", repository=tmp_path / "back")
    with contextlib.closing(sqlite3.connect(state_folder(tmp_path / "back") / "usage" / "counts.sqlite")) as copy:
        assert copy.execute("SELECT count FROM used").fetchall() == [(42,)]


def test_a_model_that_is_being_changed_is_waited_for(repository, tmp_path):
    said: list[str] = []
    done = threading.Event()

    def write():
        backup(tmp_path / "saved.tar", repository=repository, report=said.append)
        done.set()

    with lock.model(repository, "scores"):
        thread = threading.Thread(target=write)
        thread.start()
        assert not done.wait(1.0)
        assert not (tmp_path / "saved.tar").exists()
    thread.join(10)
    assert done.is_set() and any(line.startswith("waiting: model 'scores' is being changed") for line in said)


def test_what_a_killed_operation_left_is_repaired_first(repository, tmp_path):
    """So that what comes back is not half of a promotion."""
    config = repository / "scores" / "config.pbtxt"
    before = config.read_text()
    note = journal.Note(operation="promote", model="scores", version=2, before={"config.pbtxt": before})
    path = state_folder(repository) / journal.JOURNAL / "scores.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(vars(note)))
    config.write_text("half of it")
    backup(tmp_path / "saved.tar", repository=repository)
    restore(tmp_path / "saved.tar", repository=tmp_path / "back")
    assert (tmp_path / "back" / "scores" / "config.pbtxt").read_text() == before


def test_a_link_is_left_out_and_named(repository, tmp_path):
    (repository / "scores" / "elsewhere").symlink_to("/etc")
    assert backup(tmp_path / "saved.tar", repository=repository).left_out == ("repository/scores/elsewhere",)


def test_nothing_is_written_over(repository, saved, tmp_path):
    with pytest.raises(RepositoryError, match="is there already"):
        backup(saved, repository=repository)
    with pytest.raises(RepositoryError, match="model_repository is there already"):
        restore(saved, repository=repository)
    (tmp_path / "new.state").mkdir()
    (tmp_path / "new.state" / "keys").write_text("somebody's")
    with pytest.raises(RepositoryError, match=r"new\.state is there already"):
        restore(saved, repository=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_without_a_repository_there_is_no_backup(tmp_path):
    with pytest.raises(RepositoryError, match="there is no model repository"):
        backup(tmp_path / "saved.tar", repository=tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def changed(saved, target, change):
    """The backup again, each of its files through `change(name, content)`; None leaves one out."""
    with tarfile.open(saved) as old, tarfile.open(target, "w") as new:
        for member in old:
            content = change(member.name, old.extractfile(member).read()) if member.isreg() else b""
            if content is not None:
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
    return target


def test_a_version_that_is_not_what_was_published_does_not_come_back(saved, tmp_path):
    spoiled = changed(saved, tmp_path / "spoiled.tar", lambda name, x: x + b" " if name.endswith("2/model.onnx") else x)
    with pytest.raises(ManifestError, match=r"model\.onnx was changed"):
        restore(spoiled, repository=tmp_path / "back")
    missing = changed(saved, tmp_path / "missing.tar", lambda name, x: None if name.endswith("1/golden.npz") else x)
    with pytest.raises(ManifestError, match=r"golden\.npz is missing"):
        restore(missing, repository=tmp_path / "back")
    assert sorted(path.name for path in tmp_path.glob("*back*")) == []
    assert list(tmp_path.glob(".restore*")) == []


@pytest.mark.parametrize("name", ["../outside", "repository/../../outside", "/outside", "elsewhere/file"])
def test_a_file_that_would_leave_its_place_is_refused(tmp_path, saved, name):
    with tarfile.open(saved, "a") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(RepositoryError, match="belongs nowhere"):
        restore(saved, repository=tmp_path / "back")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_pipes_are_refused(tmp_path, saved, kind):
    member = tarfile.TarInfo("repository/scores/odd")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(saved, "a") as archive:
        archive.addfile(member)
    with pytest.raises(RepositoryError, match="neither a file nor a folder"):
        restore(saved, repository=tmp_path / "back")


def test_what_is_no_backup_is_refused(tmp_path, saved):
    cut = tmp_path / "cut.tar"
    cut.write_bytes(saved.read_bytes()[:20000])
    other = tmp_path / "other.tar"
    with tarfile.open(other, "w") as archive:
        archive.addfile(tarfile.TarInfo("something"))
    (tmp_path / "text").write_text("hello")
    for path in (cut, other, tmp_path / "text", tmp_path / "missing.tar"):
        with pytest.raises(RepositoryError, match="is no backup that can be put back"):
            restore(path, repository=tmp_path / "back")
    assert not (tmp_path / "back").exists() and list(tmp_path.glob(".restore*")) == []
