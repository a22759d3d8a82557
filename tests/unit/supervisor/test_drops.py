"""What is copied in is checked by a process of its own; whatever that meets, the service beside it goes on."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.repository import config as configs
from modelport.repository import drops as refusals
from modelport.repository import lock, placed, record, registry, switch
from modelport.repository.events import Event
from modelport.repository.layout import config_path, state_folder
from modelport.spec import ModelSpec, TensorSpec, dtype_of
from modelport.supervisor.drops import Drops
from modelport.supervisor.findings import Complete, Finding
from modelport.supervisor.watch import Watcher

F32 = dtype_of("FP32")
SPEC = ModelSpec(
    name="m",
    inputs=(TensorSpec(name="x", dtype=F32, dims=(3,)),),
    outputs=(TensorSpec(name="y", dtype=F32, dims=(3,)),),
    max_batch_size=8,
)


def model(nodes: list[onnx.NodeProto], *constants: onnx.TensorProto) -> bytes:
    """An ONNX model from `x` to `y`, both FP32[batch,3]."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy"]
    graph = helper.make_graph(nodes, "net", tensors[:1], tensors[1:], list(constants))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def good() -> bytes:
    return model([helper.make_node("Neg", ["x"], ["y"])])


def endless() -> bytes:
    """A model that never answers."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Neg", ["a"], ["b"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["batch", 3]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, ["batch", 3]),
        ],
    )
    return model(
        [helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)], numpy_helper.from_array(np.array(True), "true")
    )


def greedy() -> bytes:
    """A model that wants 64 GiB for one answer."""
    shape = numpy_helper.from_array(np.array([1 << 34], dtype=np.int64), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["many"]),
        helper.make_node("ReduceSum", ["many"], ["one"], keepdims=1),
        helper.make_node("Add", ["x", "one"], ["y"]),
    ]
    return model(nodes, shape)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model `m` with a configuration and no version."""
    root = tmp_path / "model_repository"
    (root / "m").mkdir(parents=True)
    config = configs.build(SPEC, backend="onnxruntime", filename="model.onnx", versions=[])
    config_path(root, "m").write_text(configs.text(config))
    return root


@pytest.fixture
def drop(repository: Path) -> Callable[[int, bytes], Path]:
    """`drop(3, content)`: a version folder, renamed into place."""

    def act(number: int, content: bytes) -> Path:
        folder = repository / "m" / f"{number}.tmp"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(content)
        return folder.rename(repository / "m" / str(number))

    return act


class Told:
    """The events, as they come."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def wait(self, *kinds: str, timeout_s: float = 60.0) -> list[Event]:
        """Until events of these kinds, in any order, and no others have come."""
        deadline = time.monotonic() + timeout_s
        while len(self.events) < len(kinds) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert sorted(e.kind for e in self.events) == sorted(kinds), self.events
        return self.events


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def start(repository: Path, told: Told) -> Iterator[Callable[..., Drops]]:
    """`start(**options)`: it runs until the end of the test; no process of it is left then."""
    started: list[Drops] = []

    def act(**options: Any) -> Drops:
        watcher = Watcher(repository, settle_s=0.5, broken_after_s=1.0, tick_s=0.1)
        started.append(Drops(repository, told, watcher=watcher, **options))
        started[-1].start()
        time.sleep(0.7)
        assert started[-1].alive()
        return started[-1]

    yield act
    for one in started:
        one.stop()
        assert not one.alive()
    assert not checks()


def checks() -> list[psutil.Process]:
    """The checks that run now."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "adopt" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def running_check(timeout_s: float = 30.0) -> psutil.Process:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for process in checks():
            if process.cpu_times().user > 2.0:  # it has loaded what it needs and runs the model
                return process
        time.sleep(0.1)
    raise AssertionError("no check runs")


def test_good_ones_become_candidates_and_broken_ones_are_refused_with_the_reason(repository, drop, start, told):
    done = start()
    drop(2, good())
    drop(3, good()[:-9])
    (repository / "m" / "4").mkdir()
    events = {event.version: event for event in told.wait("dropped", "drop_refused", "drop_refused")}
    assert placed.ours(repository, "m", 2) and events[2].level == "info" and events[2].model == "m"
    assert configs.versions_of(configs.read(config_path(repository, "m"))) == (), "it is not served"
    for version, word in ((3, "cut off"), (4, "no file")):
        assert word in events[version].text and events[version].level == "warning"
        assert word in refusals.refusal(repository, "m", version)
    assert done.counts() == {"dropped": 1, "drop_refused": 2}


def test_a_refused_one_is_looked_at_again_when_it_was_mended(repository, drop, start, told):
    start()
    folder = drop(3, b"nothing of the kind")
    told.wait("drop_refused")
    (folder / "model.onnx").write_bytes(good())
    told.wait("drop_refused", "dropped")
    assert refusals.refusal(repository, "m", 3) is None and placed.ours(repository, "m", 3)


def test_a_model_that_never_answers_is_refused_when_the_time_is_over(repository, drop, start, told):
    start(check_timeout_s=6.0)
    drop(3, endless())
    (event,) = told.wait("drop_refused")
    assert "longer than 6 s" in event.text and "longer than 6 s" in refusals.refusal(repository, "m", 3)
    assert not checks(), "the check was ended"


def test_a_model_that_wants_all_memory_is_refused_and_gets_none(repository, drop, start, told):
    start()
    free = psutil.virtual_memory().available
    drop(3, greedy())
    least = free
    while not told.events:
        least = min(least, psutil.virtual_memory().available)
        time.sleep(0.05)
    (event,) = told.wait("drop_refused")
    assert refusals.refusal(repository, "m", 3) and "Failed to allocate memory" in event.text
    assert free - least < 5 << 30


def test_a_check_that_crashes_is_a_reason_to_refuse(repository, drop, start, told):
    start()
    drop(3, endless())
    running_check().send_signal(11)
    (event,) = told.wait("drop_refused")
    assert "signal 11" in event.text and "signal 11" in refusals.refusal(repository, "m", 3)


def test_it_stops_at_once_and_what_it_was_looking_at_is_not_refused(repository, drop, start, told):
    done = start()
    drop(3, endless())
    running_check()
    began = time.monotonic()
    done.stop()
    assert time.monotonic() - began < 4.0 and not checks() and not done.alive()
    assert told.events == [] and refusals.refusal(repository, "m", 3) is None


def test_stopping_needs_no_start(repository, told):
    done = Drops(repository, told)
    done.stop()
    done.stop()
    assert not done.alive() and done.counts() == {}


def test_the_check_is_gentle_and_sees_no_gpu(repository, drop, start, told):
    start(check_timeout_s=15.0)
    drop(3, endless())
    process = running_check()
    assert process.nice() >= 10
    assert process.environ()["CUDA_VISIBLE_DEVICES"] == ""
    assert process.rlimit(psutil.RLIMIT_DATA)[0] >= 4 << 30
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    process.kill()
    told.wait("drop_refused")


def test_what_could_end_the_server_is_set_aside(repository, start, told):
    (repository / "m" / "-1").mkdir()
    start()
    for _ in range(2):
        (repository / "m" / ("9" * 20)).mkdir()
        (repository / "m" / ("9" * 20) / "file").write_text("kept")
        time.sleep(1.0)
    told.wait("set_aside", "set_aside", "set_aside")
    aside = state_folder(repository) / "set-aside" / "m"
    assert sorted(path.name for path in aside.iterdir()) == ["-1", "9" * 20, "9" * 20 + ".1"]
    assert (aside / ("9" * 20) / "file").read_text() == "kept"
    assert sorted(path.name for path in (repository / "m").iterdir()) == ["config.pbtxt"]


def test_while_another_process_changes_the_model_it_waits(repository, start, told):
    release = threading.Event()
    held = threading.Event()

    def hold() -> None:
        with lock.model(repository, "m"):
            held.set()
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    start()
    (repository / "m" / "-1").mkdir()
    told.wait("drop_failed")
    assert (repository / "m" / "-1").exists()
    release.set()
    holder.join()
    told.wait("drop_failed", "set_aside")
    assert not (repository / "m" / "-1").exists()


def test_a_link_is_refused_and_not_followed(repository, drop, start, told, tmp_path):
    start()
    folder = drop(5, good())
    shutil.move(folder, tmp_path / "elsewhere")
    (repository / "m" / "6").symlink_to("/")
    (event,) = told.wait("drop_refused")
    assert event.version == 6 and "this is a link" in event.text


class Twice:
    """A watcher that finds the same folder twice, as when a new model's configuration comes while it waits."""

    blind = ""

    def run(self, found: Callable[[Finding], None], stop: threading.Event) -> None:
        for _ in range(2):
            found(Complete(model="m", version=6))
        stop.wait()


def test_what_is_found_twice_is_handled_once(repository, told):
    (repository / "m" / "6").symlink_to("/")
    done = Drops(repository, told, watcher=Twice())
    done.start()
    try:
        told.wait("drop_refused")
        time.sleep(0.5)
        assert not checks()
    finally:
        done.stop()
    told.wait("drop_refused")


def test_a_lower_number_than_the_serving_one_stays_a_candidate_whatever_the_policy_says(repository, drop, start, told):
    drop(7, good())
    config, _ = switch.read(repository, "m")
    configs.set_versions(config, [7])
    switch.write(repository, "m", config, record.Record(on_drop="promote"))
    start()
    drop(3, good())
    events = told.wait("dropped", "drop_not_promoted")
    assert "version 7" in events[1].text and events[1].level == "info"
    row = registry.row(repository, "m", 3)
    assert row.state == "candidate" and row.problem == events[1].text
    assert configs.versions_of(configs.read(config_path(repository, "m"))) == (7,)


def test_what_it_starts_is_this_modelport_wherever_it_was_started(repository, drop, start, told, tmp_path, monkeypatch):
    """A file in the current folder must not become code of the check."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "modelport.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('nor this one')")
    start()
    drop(2, good())
    told.wait("dropped")


def test_a_changed_version_is_told_and_left_alone(repository, drop, start, told):
    done = start()
    folder = drop(2, good())
    told.wait("dropped")
    time.sleep(1.0)
    card = json.loads((folder / "manifest.json").read_text())["files"]["card.md"]
    (folder / "card.md").write_text("x" * card["size_bytes"])
    events = told.wait("dropped", "version_changed")
    assert "card.md was changed" in events[1].text and (folder / "card.md").read_text().startswith("x")
    assert done.counts()["version_changed"] == 1 and os.listdir(folder)  # noqa: PTH208
