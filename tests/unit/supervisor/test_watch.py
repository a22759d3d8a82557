"""The watcher finds what was copied in, when it is complete, and takes nothing else for it."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelport.repository import drops, placed
from modelport.repository import manifest as manifests
from modelport.repository.manifest import Manifest
from modelport.spec import ModelSpec
from modelport.supervisor.findings import Changed, Complete, Dangerous, Finding, Incomplete, Misplaced
from modelport.supervisor.watch import Watcher

SETTLE_S = 0.6
CONFIG = "version_policy {{ specific {{ versions: [{}] }} }}\n"


def version(folder: Path, *, model: str = "", number: int = 0, weights: bytes = b"weights") -> Path:
    """A version folder as publishing leaves it."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(weights)
    spec = ModelSpec(name=model or folder.parent.name, inputs=(), outputs=(), max_batch_size=0)
    manifests.write(
        folder,
        Manifest(
            spec=spec,
            version=number or int(folder.name),
            format="onnx",
            backend="onnxruntime",
            framework="",
            created="",
            files=manifests.records(folder),
        ),
    )
    return folder


class Watching:
    """A watcher in a thread, and what it found, with the time of each."""

    def __init__(self, repository: Path, **options: Any) -> None:
        self.found: list[Finding] = []
        self.times: list[float] = []
        self.repository = repository
        self.watcher = Watcher(repository, **{"settle_s": SETTLE_S, "broken_after_s": 1.0, "tick_s": 0.1, **options})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.watcher.run, args=(self._put, self._stop))

    def _put(self, finding: Finding) -> None:
        self.found.append(finding)
        self.times.append(time.monotonic())

    def __enter__(self) -> Watching:
        self._thread.start()
        time.sleep(0.7)  # until the kernel watches
        return self

    def __exit__(self, *_: object) -> None:
        began = time.monotonic()
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive() and time.monotonic() - began < 2.0, "it stops at once"

    def wait(self, count: int = 1, timeout_s: float = 15.0) -> list[Finding]:
        deadline = time.monotonic() + timeout_s
        while len(self.found) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(self.found) >= count, f"found only {self.found}"
        return self.found

    def nothing(self, for_s: float = SETTLE_S + 0.9) -> bool:
        before = len(self.found)
        time.sleep(for_s)
        return len(self.found) == before


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """`m` with version 1, which is published and loaded."""
    root = tmp_path / "model_repository"
    folder = version(root / "m" / "1")
    placed.note(root, "m", 1, folder)
    (root / "m" / "config.pbtxt").write_text(CONFIG.format(1))
    return root


@pytest.fixture
def watching(repository: Path) -> Iterator[Callable[..., Watching]]:
    """`watching(**options)`: a watcher over the repository, stopped at the test's end."""
    started: list[Watching] = []

    def act(**options: Any) -> Watching:
        started.append(Watching(repository, **options).__enter__())
        return started[-1]

    yield act
    for one in started:
        one.__exit__()


def test_a_folder_that_is_copied_slowly_is_found_once_and_only_when_nothing_changes_any_more(repository, watching):
    seen = watching()
    folder = repository / "m" / "2"
    folder.mkdir()
    for name in ("a", "b", "c", "d"):
        (folder / name).write_bytes(b"1")
        time.sleep(SETTLE_S * 0.6)
        with (folder / name).open("ab") as file:
            file.write(b"2")
        last = time.monotonic()
        time.sleep(SETTLE_S * 0.6)
        assert seen.found == []
    assert seen.wait() == [Complete(model="m", version=2)]
    assert seen.times[0] - last >= SETTLE_S
    assert seen.nothing(), "and never again"


def test_a_folder_whose_manifest_lists_what_is_there_is_found_soon(repository, watching, tmp_path):
    made = version(tmp_path / "m" / "2")
    seen = watching(settle_s=60.0, manifest_settle_s=0.5)
    (repository / "m" / "2").mkdir()
    for name in ("manifest.json", "model.onnx"):  # the manifest first: it alone is not enough
        time.sleep(1.0)
        assert seen.found == []
        shutil.copy(made / name, repository / "m" / "2")
    assert seen.wait(timeout_s=5.0) == [Complete(model="m", version=2)]


def test_names_of_copying_programs_are_waited_for(repository, watching):
    seen = watching(broken_after_s=60.0)
    folder = repository / "m" / "2"
    folder.mkdir()
    (folder / ".model.onnx.Xy12Zz").write_bytes(b"weights")
    assert seen.nothing()
    (folder / ".model.onnx.Xy12Zz").rename(folder / "model.onnx")
    assert seen.wait() == [Complete(model="m", version=2)]


def test_a_folder_is_found_under_its_final_name_only(repository, watching):
    seen = watching()
    (repository / "m" / "2.tmp").mkdir()
    (repository / "m" / "2.tmp" / "model.onnx").touch()
    assert seen.nothing()
    (repository / "m" / "2.tmp").rename(repository / "m" / "2")
    assert seen.wait() == [Complete(model="m", version=2)]


def test_a_folder_that_stays_incomplete_is_told_once_and_again_when_it_changes(repository, watching, tmp_path):
    made = version(tmp_path / "m" / "2")
    seen = watching()
    (repository / "m" / "2").mkdir()
    shutil.copy(made / "manifest.json", repository / "m" / "2")
    reason = "manifest.json lists 'model.onnx', which is not there"
    assert seen.wait() == [Incomplete(model="m", version=2, reason=reason)]
    assert seen.nothing()
    shutil.copy(made / "model.onnx", repository / "m" / "2")
    assert seen.wait(2)[1] == Complete(model="m", version=2)


def test_a_folder_that_was_refused_is_found_again_when_it_changes(repository, watching):
    (repository / "m" / "2").mkdir()
    (repository / "m" / "2" / "model.onnx").touch()
    drops.refuse(repository, "m", 2, "no good")
    seen = watching()
    assert seen.nothing(), "it was refused before this start"
    (repository / "m" / "2" / "model.onnx").write_bytes(b"weights")
    assert seen.wait() == [Complete(model="m", version=2)]


def test_what_is_published_or_adopted_meanwhile_is_not_found(repository, watching, tmp_path):
    seen = watching()
    made = version(tmp_path / "m" / "2")
    placed.note(repository, "m", 2, made)
    shutil.move(made, repository / "m" / "2")
    version(repository / "m" / "3")
    placed.note(repository, "m", 3, repository / "m" / "3")
    assert seen.nothing()


def test_at_the_start_what_is_loaded_or_was_published_is_taken_as_it_is(repository, watching):
    """A repository that another server made, one that was copied as a whole, and one in which something was dropped."""
    (repository / "foreign" / "1").mkdir(parents=True)
    (repository / "foreign" / "1" / "model.onnx").touch()
    (repository / "foreign" / "config.pbtxt").write_text(CONFIG.format(1))
    version(repository / "copied" / "1")
    (repository / "copied" / "config.pbtxt").write_text(CONFIG.format(""))
    version(repository / "m" / "2")  # has a manifest, and nothing here made it
    (repository / "m" / "3").mkdir()
    (repository / "m" / "3" / "model.onnx").touch()
    seen = watching()
    assert seen.wait(2) and seen.nothing()
    assert sorted(str(f) for f in seen.found) == sorted(str(Complete(model="m", version=v)) for v in (2, 3))


def test_what_a_new_model_brings_is_never_taken_as_it_is(repository, watching):
    seen = watching()
    version(repository / "new" / "1")
    (repository / "new" / "config.pbtxt").write_text(CONFIG.format(1))
    assert seen.wait() == [Complete(model="new", version=1)]


def test_a_new_model_is_looked_at_again_when_its_configuration_comes(repository, watching):
    seen = watching()
    (repository / "new" / "1").mkdir(parents=True)
    (repository / "new" / "1" / "model.pt").touch()
    seen.wait()
    (repository / "new" / "config.pbtxt").write_text(CONFIG.format(1))
    assert seen.wait(2) == [Complete(model="new", version=1)] * 2
    (repository / "new" / "config.pbtxt").write_text(CONFIG.format(""))  # as the check does before it looks
    assert seen.nothing()


def test_dangerous_names_are_told_at_once_and_once(repository, watching):
    (repository / "m" / "-1").mkdir()
    seen = watching()
    assert [type(f) for f in seen.wait()] == [Dangerous]
    for name in ("99999999999999999999", "4"):
        (repository / "m" / name).mkdir()
    (repository / "m" / "4" / "triton_python_backend_stub").touch()
    (repository / "m" / "1" / "triton_python_backend_stub").touch()  # a published version is told as changed
    seen.wait(4)
    assert seen.nothing()
    assert {f.name for f in seen.found if isinstance(f, Dangerous)} == {"-1", "99999999999999999999", "4"}
    assert [f for f in seen.found if isinstance(f, Changed)] and len(seen.found) == 4


def test_what_lies_where_no_version_is_looked_for_is_told_once(repository, watching, tmp_path):
    seen = watching()
    (repository / "m" / "net.onnx").touch()
    (repository / "new").mkdir()
    (repository / "new" / "model.onnx").touch()
    (repository / "other.onnx").touch()
    (tmp_path / "1").mkdir()
    (repository / "my model").mkdir()
    (tmp_path / "1").rename(repository / "my model" / "1")
    (repository / "notes.txt").touch()
    (repository / "m" / "labels.txt").touch()
    assert seen.wait(4) and seen.nothing()
    told = {f"{f.model}/{f.name}": f.reason for f in seen.found if isinstance(f, Misplaced)}
    assert told.keys() == {"m/net.onnx", "new/model.onnx", "/other.onnx", "/my model"} and len(seen.found) == 4
    assert "into m/2/" in told["m/net.onnx"] and "into new/1/" in told["new/model.onnx"]
    assert "into other/1/ as model.onnx" in told["/other.onnx"]


def test_a_published_version_that_is_changed_is_told_once(repository, watching, tmp_path):
    seen = watching()
    os.utime(repository / "m" / "1" / "model.onnx", (1, 1))
    assert seen.nothing(), "its content is as it was"
    (repository / "m" / "1" / "model.onnx").write_bytes(b"WEIGHTS")
    (finding,) = seen.wait()
    assert isinstance(finding, Changed) and "model.onnx was changed" in finding.reason
    assert seen.nothing()
    other = version(tmp_path / "elsewhere" / "1", model="m", weights=b"others")
    shutil.copytree(other, repository / "m" / "1", dirs_exist_ok=True)  # its manifest is right
    assert "taken its place" in seen.wait(2)[-1].reason
    shutil.rmtree(repository / "m" / "1")
    assert isinstance(seen.wait(3)[-1], Changed) and seen.nothing()
    assert seen.found[-1].reason == "its folder is gone, and config.pbtxt names it"


def test_a_candidate_that_is_deleted_is_nobodys_business(repository, watching):
    folder = version(repository / "m" / "2")
    placed.note(repository, "m", 2, folder)
    seen = watching()
    shutil.rmtree(folder)
    assert seen.nothing()


def test_where_the_kernel_wakes_nobody_a_scan_finds_it(tmp_path):
    """Nothing can be watched where nothing is yet; the scans go on and find what comes."""
    root = tmp_path / "model_repository"
    with Watching(root, settle_s=0.5, rescan_s=1.0) as seen:
        assert seen.watcher.blind
        (root / "m" / "1").mkdir(parents=True)
        (root / "m" / "1" / "model.onnx").touch()
        assert seen.wait() == [Complete(model="m", version=1)]


def test_a_manifest_of_any_size_and_a_tree_of_any_depth_stop_nobody(repository, watching):
    seen = watching()
    folder = repository / "m" / "2"
    folder.mkdir()
    with (folder / "manifest.json").open("wb") as file:
        file.truncate(1 << 33)
    deep = folder
    for _ in range(400):
        deep = deep / "d"
    os.makedirs(deep)  # noqa: PTH103 - Path.mkdir recurses
    (deep / "file").write_text(json.dumps([]))
    assert seen.wait() == [Complete(model="m", version=2)]
