"""The line before a model: who is refused, and when nobody is. The module runs in Triton's stub, without modelport."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelport import _cores
from modelport.server import toolchain


@pytest.fixture(scope="module")
def module():
    sys.path.insert(0, str(toolchain.BACKENDS))
    sys.modules["modelport_cores"] = _cores  # as beside a backend
    try:
        yield importlib.import_module("modelport_line")
    finally:
        sys.path.remove(str(toolchain.BACKENDS))
        for name in ("modelport_line", "modelport_config", "modelport_cores"):
            sys.modules.pop(name, None)


@dataclass
class Model:
    """A model in a time of its own: each run takes `run_s`, and `arrivals` requests come meanwhile."""

    line: object
    clock: list[float]
    waiting: int = 0
    looks: int = 0
    fails: bool = False
    refused: int = 0
    ran: list[int] = field(default_factory=list)

    def look(self) -> int:
        self.looks += 1
        if self.fails:
            raise OSError("no metrics")
        return self.waiting

    def call(self, count: int = 1, *, run_s: float = 0.02, pause_s: float = 0.0, arrivals: int = 0) -> bool:
        """One `execute` call; whether it was refused."""
        self.clock[0] += pause_s
        self.waiting = max(0, self.waiting - count)
        if self.line.refuses(count):
            self.refused += count
            self.clock[0] += 0.0002
            return True
        began = self.clock[0]
        self.clock[0] += run_s
        self.waiting += arrivals
        self.line.answered(count, began)
        self.ran.append(count)
        return False


def overload(model: Model, waiting: int, **call) -> None:
    """Let so many requests wait until the first is refused."""
    for _ in range(50):
        model.waiting = waiting
        if model.call(**call):
            return
    pytest.fail("nobody was refused")


@pytest.fixture
def make(module):
    """`make(**facts of the configuration)`: a model with its line."""

    def build(**facts):
        config = {"name": "m", "folder": Path("1"), "max_batch_size": 0, "instances": 1, "queue_policy": False}
        config |= {"parameters": {}, **facts}
        config["number"] = lambda key: int(config["parameters"][key])
        model = Model(line=None, clock=[100.0])
        model.line = module.Line(SimpleNamespace(**config), lambda: model.look(), lambda: model.clock[0])
        return model

    return build


def test_a_short_line_is_never_refused(make):
    model = make()
    for _ in range(500):
        model.call(run_s=0.02, arrivals=1)
    assert model.refused == 0 and len(model.ran) == 500


def test_a_line_of_ten_times_the_capacity_is_cut_and_the_model_goes_on_answering(make):
    """At 50 runs a second and 500 requests, what waits stays below a second's worth, and the runs go on."""
    model = make()
    longest = 0
    while model.clock[0] < 110.0:
        model.call(run_s=0.02, arrivals=10)
        longest = max(longest, model.waiting)
    assert 0.8 * 500 <= len(model.ran) <= 500
    assert longest <= 10 * 50 * 0.5
    assert model.refused > 8 * len(model.ran)


def test_a_few_runs_worth_may_always_wait_however_slow_the_model_is(make):
    model = make()
    for _ in range(20):
        model.waiting = 5  # four runs, after the call has taken one
        assert not model.call(run_s=2.0)
    overload(model, 9, run_s=2.0)


def test_a_long_line_is_cut_in_parts_with_a_look_before_each(make):
    """Another instance may refuse meanwhile: nobody is refused twice over."""
    model = make(max_batch_size=8, instances=2)
    overload(model, 1000, count=8, run_s=0.1)
    looks = model.looks
    model.waiting = 600  # some went to the other instance
    while model.call(8):
        pass
    most = 0.75 * (8 / 0.1) * 2
    assert model.looks - looks >= 2
    assert most / 2 - 16 <= model.waiting <= most / 2, "half of what may wait is left"


def test_what_is_refused_ends_with_the_line(make):
    """After a pause the requests that were counted are gone: those that come now are others."""
    model = make()
    overload(model, 1000)
    assert not model.call(pause_s=0.1)


def test_the_line_of_a_model_that_is_not_busy_is_not_looked_at(make):
    """Looking costs a request to the metrics, which a caller would wait for."""
    model = make()
    for _ in range(100):
        model.call(run_s=0.01, pause_s=0.02)
    assert model.looks == 0
    for _ in range(100):
        model.call(run_s=0.01)
    assert 7 <= model.looks <= 10, "a second of work without a pause"


def test_metrics_that_cannot_be_read_never_stop_an_answer(make):
    model = make()
    model.fails = True
    model.waiting = 100_000
    for _ in range(200):
        assert not model.call()
    assert model.looks == 1, "it does not ask again at once"
    model.fails = False
    for _ in range(500):
        model.call()
    assert model.refused


@pytest.mark.parametrize("facts", [{"parameters": {"modelport_max_wait_ms": "0"}}, {"queue_policy": True}])
def test_the_owner_can_turn_it_off(make, facts):
    model = make(**facts)
    for _ in range(100):
        model.waiting = 100_000
        assert not model.call()
    assert model.looks == 0


def test_the_owner_can_let_requests_wait_longer(make):
    for text, refused in (("", True), ("20000", False)):
        model = make(parameters={"modelport_max_wait_ms": text} if text else {})
        for _ in range(50):
            model.waiting = 500
            model.call()
        assert bool(model.refused) is refused
