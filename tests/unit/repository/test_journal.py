"""An operation that was killed is repaired by whoever takes the model's lock next."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading

import pytest

from modelport.errors import ManifestError, RepositoryError, RepositoryLockedError
from modelport.repository import journal
from modelport.repository.journal import Note
from modelport.repository.layout import state_folder

CONFIG = b'# \xff stays\r\nname: "net"\r\n'  # what a text file may hold: line ends of Windows, no UTF-8


@pytest.fixture
def model(repository):
    """A model's folder with a configuration and one label file."""
    folder = repository / "net"
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_bytes(CONFIG)
    (folder / "y.txt").write_bytes(b"cat\n")
    return folder


@pytest.fixture
def note(repository, model):
    names = ["config.pbtxt", "y.txt", "z.txt"]
    before = journal.texts(repository, "net", names)
    return Note(operation="promote", model="net", version=2, before=before, done_with="2")


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def change(model) -> None:
    for name in ("config.pbtxt", "y.txt", "z.txt"):
        (model / name).write_bytes(b"new")


KILLED = """
import os, signal, sys
from pathlib import Path
from modelport.repository import journal
repository = Path(sys.argv[1])
before = journal.texts(repository, "net", ["config.pbtxt", "y.txt", "z.txt"])
with journal.changing(repository, "net"):
    with journal.noted(repository, journal.Note(operation="promote", model="net", version=2, before=before)):
        for name in before:
            (repository / "net" / name).write_text("new")
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_one_on_the_model_puts_back_what_a_killed_operation_changed(repository, model):
    """And learns what it was."""
    before = contents(model)
    assert subprocess.run([sys.executable, "-c", KILLED, str(repository)], check=False).returncode == -9
    assert contents(model) != before and journal.pending(repository) == ["net"]
    with journal.changing(repository, "net") as found:
        assert (found.operation, found.version) == ("promote", 2)
        assert contents(model) == before
    with journal.changing(repository, "net") as found:
        assert found is None
    assert journal.pending(repository) == [] and list((state_folder(repository) / "staging").iterdir()) == []


def test_all_models_can_be_repaired_at_once_but_those_that_are_being_changed(repository, model):
    before = contents(model)
    subprocess.run([sys.executable, "-c", KILLED, str(repository)], check=False)
    done = []
    with journal.lock.model(repository, "net"):
        thread = threading.Thread(target=lambda: done.append(journal.repair(repository)))
        thread.start()
        thread.join()
        assert done == [[]] and contents(model) != before
    assert [found.model for found in journal.repair(repository)] == ["net"] and contents(model) == before
    assert journal.repair(repository) == []


def test_a_repository_without_a_journal_needs_no_repair(repository):
    assert journal.repair(repository) == [] and journal.pending(repository) == []


def test_the_note_is_there_while_the_block_runs_and_gone_after_it(repository, model, note):
    with journal.noted(repository, note):
        written = json.loads((state_folder(repository) / "journal" / "net.json").read_text())
        assert (written["operation"], written["version"], written["before"]["z.txt"]) == ("promote", 2, None)
        change(model)
    assert contents(model)["config.pbtxt"] == b"new" and journal.pending(repository) == []


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_puts_its_files_back(repository, model, note, error):
    before = contents(model)
    with pytest.raises(error), journal.noted(repository, note):
        change(model)
        raise error
    assert contents(model) == before and journal.pending(repository) == []


def test_an_operation_that_was_done_is_not_taken_back(repository, model, note):
    """It failed, or was killed, after its last step."""
    with pytest.raises(ZeroDivisionError), journal.noted(repository, note):
        change(model)
        (model / "2").mkdir()
        raise ZeroDivisionError
    assert contents(model)["config.pbtxt"] == b"new" and journal.pending(repository) == []


def test_what_did_not_change_is_not_written(repository, model, note):
    """Triton takes a newer time for a changed model."""
    stamps = {path.name: path.stat().st_mtime_ns for path in model.iterdir()}
    with pytest.raises(ZeroDivisionError), journal.noted(repository, note):
        raise ZeroDivisionError
    assert {path.name: path.stat().st_mtime_ns for path in model.iterdir()} == stamps


def test_where_even_putting_back_fails_the_note_stays_and_the_first_error_is_told(repository, model, note):
    """The folder of the model is gone when it is to be put back, and is there again for the next command."""
    before = contents(model)
    with pytest.raises(ZeroDivisionError), journal.noted(repository, note):
        change(model)
        model.rename(repository / "aside")
        raise ZeroDivisionError
    assert journal.pending(repository) == ["net"]
    with pytest.raises(RepositoryError, match="No such file"), journal.changing(repository, "net"):
        pass
    (repository / "aside").rename(model)
    with journal.changing(repository, "net") as found:
        assert found == note and contents(model) == before


def test_a_folder_in_the_place_of_a_file_that_was_not_there_is_left_alone(repository, model, note):
    before = contents(model)
    with pytest.raises(ZeroDivisionError), journal.noted(repository, note):
        (model / "z.txt").mkdir()
        raise ZeroDivisionError
    assert (model / "z.txt").is_dir() and contents(model) == before and journal.pending(repository) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"operation": "x"}', '{"moves": []}'])
def test_a_damaged_note_is_one_clear_error(repository, model, content):
    path = state_folder(repository) / "journal" / "net.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(ManifestError) as caught, journal.changing(repository, "net"):
        pass
    assert "net.json" in caught.value.what and str(path) in caught.value.fix and caught.value.why
    path.unlink()
    with journal.changing(repository, "net") as found:
        assert found is None


def test_a_file_that_is_no_note_stops_no_repair(repository, model):
    folder = state_folder(repository) / "journal"
    folder.mkdir(parents=True)
    (folder / "a b.json").write_text("{}")
    subprocess.run([sys.executable, "-c", KILLED, str(repository)], check=False)
    assert [found.model for found in journal.repair(repository)] == ["net"]


def test_a_model_that_is_being_changed_is_not_changed_by_another(repository, model):
    found = []

    def act() -> None:
        try:
            with journal.changing(repository, "net", timeout_s=0):
                pass
        except RepositoryLockedError as exc:
            found.append(exc)

    with journal.changing(repository, "net"):
        thread = threading.Thread(target=act)
        thread.start()
        thread.join()
    assert "model 'net' is being changed" in found[0].what


def test_a_disk_that_refuses_is_one_clear_error_already_at_the_lock(repository):
    state_folder(repository).write_text("a file")
    with pytest.raises(RepositoryError) as caught, journal.changing(repository, "net"):
        pass
    assert caught.value.exit_code == 30 and caught.value.why and caught.value.fix


# --- what a server may have loaded -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loads", [True, False])
def test_what_was_taken_back_is_to_be_loaded_again_where_a_server_may_have_it(repository, model, note, loads):
    note = dataclasses.replace(note, loads=loads)
    with pytest.raises(ZeroDivisionError), journal.noted(repository, note):
        change(model)
        raise ZeroDivisionError
    assert journal.to_load(repository) == (["net"] if loads else [])
    with journal.changing(repository, "net") as found:
        assert found is None
        journal.loaded(repository, "net")
    assert journal.to_load(repository) == [] and journal.pending(repository) == []


def test_what_was_brought_to_its_end_needs_no_loading(repository, model, note):
    with journal.noted(repository, dataclasses.replace(note, loads=True)):
        change(model)
    assert journal.to_load(repository) == []


def test_a_model_whose_name_looks_like_a_note_is_no_other_model(repository, model):
    for name in ("net.load", "net.json", "a.b"):
        journal.note_to_load(repository, name)
    assert journal.to_load(repository) == ["a.b", "net.json", "net.load"] and journal.pending(repository) == []
