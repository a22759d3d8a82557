"""The whole life of a version that was made smaller: trained, optimised, judged, promoted under load, taken back."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import modelport
from modelport.client import Client
from modelport.commands.evaluate import evaluate
from modelport.commands.gate import gate
from modelport.commands.optimise import optimise
from modelport.errors import GateError, ModelportError
from modelport.evaluate import stored
from modelport.repository.gate import Gate

TRAINED = 1200


class Digits(torch.nn.Module):
    """Probabilities of the ten digits from 64 grey values."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))

    def forward(self, image):
        return torch.softmax(self.layers(image), dim=1)


@pytest.fixture(scope="module")
def digits():
    """Real handwritten digits, 8x8 pixels, from 0 to 1; and which they are."""
    found = load_digits()
    return (found.data / 16).astype(np.float32), found.target


@pytest.fixture(scope="module")
def network(digits):
    """Trained on the first of them."""
    torch.manual_seed(0)
    net = Digits()
    images, labels = torch.from_numpy(digits[0][:TRAINED]), torch.from_numpy(digits[1][:TRAINED])
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(torch.log(net(images) + 1e-9), labels).backward()
        optimizer.step()
    return net.eval()


class Load:
    """Asks for the same rows again and again; remembers what was answered, and what failed."""

    def __init__(self, url, model, rows):
        self.answers, self.errors, self._stop = [], [], threading.Event()
        self._ask = threading.Thread(target=self._run, args=(url, model, rows))

    def _run(self, url, model, rows):
        with Client(url, timeout_s=10, retries=0) as client:
            while not self._stop.is_set():
                try:
                    self.answers.append(client.infer(model, inputs={"image": rows})["probabilities"])
                except ModelportError as exc:
                    self.errors.append(str(exc))

    def __enter__(self):
        self._ask.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._ask.join()


def test_a_smaller_version_is_made_judged_promoted_under_load_and_taken_back(
    shelf, server, digits, network, tmp_path, untouched
):
    """1 is trained, 2 is 1 in int8, 3 is spoiled: the gate refuses 3, and 2 serves without one lost request."""
    images, labels = digits
    data = tmp_path / "digits.npz"
    np.savez(data, image=images[TRAINED:], labels=labels[TRAINED:])
    told = {"name": "small", "repository": shelf.root, "example_inputs": {"image": images[:64]}}
    modelport.export(network, **told, output_names=("probabilities",))
    server.load("small")
    before = evaluate("small", data=str(data), repository=shelf.root).scores.scores["accuracy"]
    assert before.value > 0.9
    gate("small", Gate(metric="accuracy", min=0.9, max_drop=0.01), data=str(data), repository=shelf.root)

    made = optimise("small", to="int8-dynamic", repository=shelf.root, rounds=1, seconds=0.05)
    assert made.version == 2 and made.measured.smaller > 2
    spoiled = Digits()
    spoiled.load_state_dict(network.state_dict())
    torch.nn.init.normal_(spoiled.layers[0].weight)
    modelport.export(spoiled.eval(), **told, output_names=("probabilities",))
    with pytest.raises(GateError, match="accuracy drops by"):
        modelport.promote("small", 3, repository=shelf.root)
    untouched(server, "small", (1,))

    rows = images[TRAINED : TRAINED + 8]
    with Load(server.http_url, "small", rows) as load, Client(server.http_url) as client:
        first = client.infer("small", version=1, inputs={"image": rows})["probabilities"]
        done = modelport.promote("small", 2, repository=shelf.root)
        second = client.infer("small", version=2, inputs={"image": rows})["probabilities"]
        back = modelport.rollback("small", repository=shelf.root)
    assert (done.version, back.version) == (2, 1) and done.judged
    assert load.errors == [] and len(load.answers) > 10
    assert not np.allclose(first, second, atol=1e-6), "the versions can be told apart"
    near = [[np.allclose(answer, known, atol=1e-6) for known in (first, second)] for answer in load.answers]
    assert all(any(one) for one in near) and any(one[1] for one in near) and near[-1][0]
    (passed,) = stored.read(shelf.root, "small", 2)[stored.JUDGEMENTS]
    assert passed["result"] == "passed" and passed["verdicts"][0]["drop"]["value"] <= 0.01
