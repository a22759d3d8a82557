"""What a version brings beside its file: it comes with the promotion and goes with the rollback, in the server too."""

from __future__ import annotations

import json
import urllib.request

import numpy as np
import pytest

import modelport
from modelport._process import wait_until
from modelport.client import Client
from modelport.commands.assemble import publish_ensemble
from modelport.repository import events, switch
from modelport.repository.config import EnsembleStep
from modelport.server import stubs


def promote(shelf, model, version=None, **options):
    return modelport.promote(model, version, repository=shelf.root, **options)


def rollback(shelf, model, version=None):
    return modelport.rollback(model, version, repository=shelf.root)


@pytest.fixture(scope="module")
def isolated():
    """Processes of ONNX models are told apart here."""
    return True


@pytest.fixture
def best():
    """`best(server, model)`: the label of the largest element, as the server tells it."""

    def ask(server, model):
        body = {
            "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.5, 0.5]}],
            "outputs": [{"name": "y", "parameters": {"classification": 1}}],
        }
        request = urllib.request.Request(f"{server.http_url}/v2/models/{model}/infer", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)["outputs"][0]["data"][0].split(":")[2]

    return ask


@pytest.fixture
def named(shelf, server):
    """The name of a model whose version 1 has labels and is served."""
    name = f"named{len(list(shelf.root.iterdir()))}"
    shelf.publish(name, labels=["cat", "dog"])
    server.load(name)
    yield name
    server.unload(name)


def pids(server, model):
    return {(stub.version, stub.pid) for stub in stubs.find(server.handle, model)}


def test_labels_come_and_go_with_their_version(shelf, server, named, best, callers, ask):
    assert best(server, named) == "cat"
    shelf.publish(named, labels=["Katze", "Hund"])
    said = []
    with callers(server, named, pinned=None) as load:
        promote(shelf, named, report=said.append)
        assert best(server, named) == "Katze"
        load.wait(20)
        rollback(shelf, named)
        assert best(server, named) == "cat"
        load.wait(20)
    assert load.violations([1, 2]) == []
    assert "version 1 was made with other labels, parameters or steps: it cannot stay loaded" in said


def test_the_same_labels_load_nothing_anew(shelf, server, named, best):
    before = pids(server, named)
    shelf.publish(named, labels=["cat", "dog"])
    shelf.publish(named)  # has those of its time
    promote(shelf, named, 2)
    assert before < pids(server, named) and best(server, named) == "cat"
    both = pids(server, named)
    promote(shelf, named)
    assert server.ready_versions(named) == (2, 3) and best(server, named) == "cat"
    assert {one for one in both if one[0] == 2} < pids(server, named)
    rollback(shelf, named)
    assert {one for one in both if one[0] == 2} <= pids(server, named) and best(server, named) == "cat"


def test_parameters_and_instances_come_and_go_with_their_version(shelf, server, net, callers):
    before = pids(server, net)
    config, known = switch.read(shelf.root, net)
    config.parameters["intra_op_thread_count"].string_value = "2"
    switch.write(shelf.root, net, config, known)
    server.load(net)
    shelf.publish(net, parameters={"intra_op_thread_count": "1"}, instance_count=2, asked=["instance_group"])
    with callers(server, net, pinned=None) as load:
        assert promote(shelf, net).loaded == (2,)
        assert wait_until(lambda: [v for v, _ in sorted(pids(server, net))] == [2, 2], timeout_s=10)
        load.wait(20)
        rollback(shelf, net)
        load.wait(20)
    assert load.violations([1, 2]) == []
    assert wait_until(lambda: [v for v, _ in pids(server, net)] == [1], timeout_s=10)
    assert not pids(server, net) & before
    config, known = switch.read(shelf.root, net)
    assert config.parameters["intra_op_thread_count"].string_value == "2" and config.instance_group[0].count == 1


def test_a_larger_batch_comes_and_goes_with_its_version(shelf, server, net, callers):
    """The version before is loaded anew with it, and no caller notices."""
    shelf.publish(net, batch=16, asked=["max_batch_size"])

    def rows(count):
        with Client(server.http_url) as client:
            return client.infer(net, inputs={"x": np.ones((count, 2), np.float32)})["y"].shape[0]

    with callers(server, net) as load:
        assert promote(shelf, net).loaded == (1, 2)
        load.wait(20)
        assert rows(16) == 16
        rollback(shelf, net)
        load.wait(20)
    assert load.violations([1, 2]) == []
    with pytest.raises(modelport.ModelportError, match="batch-size must be <= 8"):
        rows(16)


def test_a_smaller_batch_of_the_owner_is_respected(shelf, server, net):
    """The golden inputs are sent in parts that fit."""
    config, known = switch.read(shelf.root, net)
    config.max_batch_size = 3
    switch.write(shelf.root, net, config, known)
    server.load(net)
    shelf.publish(net)
    assert promote(shelf, net).version == 2


def test_a_python_model_is_promoted_and_taken_back(shelf, server, callers, ask, untouched):
    shelf.publish("snake", python={})
    server.load("snake")
    shelf.publish("snake", python={})
    with callers(server, "snake") as load:
        promote(shelf, "snake")
        load.wait(20)
        assert ask(server, "snake") == 2
        rollback(shelf, "snake")
        load.wait(20)
    assert load.violations([1, 2]) == []
    untouched(server, "snake", (1,))
    assert not list((shelf.root / "snake").rglob("*.pyc")), "a version's folder does not change"


def ensemble(shelf, spec, model, member, value):
    x = np.random.default_rng(1).random((4, 2), dtype=np.float32)
    y = np.stack([np.full(4, value, np.float32), x[:, 0]], axis=1)
    steps = [EnsembleStep(model=member, inputs={"x": "x"}, outputs={"y": "y"})]
    return publish_ensemble(spec, steps, example_inputs={"x": x}, answers={"y": y}, repository=shelf.root)


def test_an_ensemble_is_promoted_and_taken_back(shelf, server, net, callers, ask, untouched, make_spec):
    """Both versions of an ensemble are one configuration: with other steps, the version before cannot stay loaded."""
    other = f"{net}other"
    shelf.publish(other, value=7)
    server.load(other)
    spec = make_spec("whole")
    ensemble(shelf, spec, "whole", net, 1)
    server.load("whole")
    assert ask(server, "whole") == 1
    ensemble(shelf, spec, "whole", other, 7)
    members = pids(server, net) | pids(server, other)
    with callers(server, "whole", pinned=None) as load:
        assert promote(shelf, "whole").loaded == (2,)
        assert ask(server, "whole") == 7
        rollback(shelf, "whole")
        load.wait(20)
    assert load.violations([1, 7]) == []
    assert ask(server, "whole") == 1
    untouched(server, "whole", (1,))
    assert pids(server, net) | pids(server, other) == members, "the members were not loaded anew"
    ensemble(shelf, spec, "whole", other, 8)
    with pytest.raises(modelport.ModelportError, match="on trial"):
        promote(shelf, "whole")
    untouched(server, "whole", (1,))
    for name in ("whole", other):
        server.unload(name)


def test_a_member_of_an_ensemble_is_promoted(shelf, server, net, callers, ask, make_spec):
    """The ensemble follows at once: it asks for its members without a version."""
    ensemble(shelf, make_spec("around"), "around", net, 1)
    server.load("around")
    shelf.publish(net)
    with callers(server, "around", pinned=None) as load:
        promote(shelf, net)
        load.wait(20)
        assert ask(server, "around") == 2
        rollback(shelf, net)
        load.wait(20)
    assert load.violations([1, 2]) == []
    server.unload("around")


def test_what_happened_can_be_read(shelf, server, net):
    shelf.publish(net)
    promote(shelf, net)
    rollback(shelf, net)
    up, down = events.latest(shelf.root, 2)
    assert (up.kind, up.model, up.version, up.facts["before"]) == ("promoted", net, 2, 1)
    assert (down.kind, down.version, down.facts["before"]) == ("rolled_back", 1, 2)
    assert "in the place of version 1; switched in " in up.text
