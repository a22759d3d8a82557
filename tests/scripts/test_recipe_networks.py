"""The networks in export/networks/ and the Triton models beside them do what the recipes say of them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

EXPORT = Path(__file__).resolve().parents[2] / "export"


@pytest.fixture(autouse=True)
def beside_the_recipes(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPORT))
    yield
    for name in [n for n in sys.modules if n.partition(".")[0] in ("networks", "triton_models")]:
        del sys.modules[name]


def load(name):
    return importlib.import_module(name)


def test_resnet18_has_the_names_and_sizes_of_torchvisions():
    """Names and the number of parameters as torchvision's documentation gives them for `resnet18`."""
    state = load("networks.resnet").ResNet18().state_dict()
    assert len(state) == 122
    assert sum(p.numel() for p in load("networks.resnet").ResNet18().parameters()) == 11_689_512
    for name, shape in {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.1.conv2.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer3.0.downsample.1.num_batches_tracked": (),
        "layer4.1.bn2.bias": (512,),
        "fc.weight": (1000, 512),
        "fc.bias": (1000,),
    }.items():
        assert tuple(state[name].shape) == shape


def test_the_student_is_a_small_part_of_its_teacher():
    """Three sides that halve, and as many classes as it is given."""
    small = load("networks.small_convnet").SmallConvNet(classes=7).eval()
    assert small(torch.zeros(2, 3, 28, 28)).shape == (2, 7)
    assert sum(p.numel() for p in small.parameters()) < 30_000


def test_padding_does_not_change_the_answer_of_the_text_network():
    text = load("networks.text")
    torch.manual_seed(0)
    network = text.Probabilities(text.LastStepLSTM(words=50, width=8)).eval()
    tokens = torch.randint(1, 50, (4, 6))
    padded = torch.nn.functional.pad(tokens, (0, 5))
    assert torch.allclose(network(tokens), network(padded), atol=1e-6)
    assert not torch.allclose(network(tokens), network(tokens[:, :5]), atol=1e-6)


def test_an_empty_text_has_an_answer():
    text = load("networks.text")
    answer = text.Probabilities(text.LastStepLSTM(words=50, width=8)).eval()(torch.zeros(1, 3, dtype=torch.int64))
    assert torch.isfinite(answer).all() and torch.allclose(answer.sum(), torch.tensor(1.0))


MATRIX = torch.zeros(3, 30)
MATRIX[0, :20] = 5  # likes the first twenty
MATRIX[1, 10:] = 4  # likes the last twenty
MATRIX[2, 25:] = 3


@pytest.fixture
def neighbours():
    return load("networks.neighbours").Neighbours(MATRIX)


def test_somebody_like_the_first_person_gets_what_that_person_likes(neighbours):
    ratings = torch.zeros(1, 30)
    ratings[0, :10] = 5
    items, scores = neighbours(ratings)
    assert sorted(items[0].tolist()) == list(range(10, 20))
    assert (scores[0] > 4.9).all()


def test_what_was_rated_is_never_recommended(neighbours):
    ratings = torch.randint(0, 6, (20, 30), generator=torch.Generator().manual_seed(0)).float()
    ratings[:, 15:] = 0
    items, _ = neighbours(ratings)
    assert not torch.gather(ratings, 1, items).any()


def test_somebody_without_ratings_gets_what_is_popular(neighbours):
    items, scores = neighbours(torch.zeros(1, 30))
    assert set(items[0].tolist()) <= set(range(10, 20)) | set(range(25, 30))
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 2, 224), (5, 2, 56), (3, 1, 14), (5, 1, 14)])
def test_same_padding_divides_the_side_by_the_stride(kernel, stride, side):
    pad = load("networks.efficientnet").same_padding(kernel, stride)
    answer = torch.nn.functional.conv2d(
        pad(torch.zeros(1, 1, side, side)), torch.zeros(1, 1, kernel, kernel), stride=stride
    )
    assert answer.shape[-1] == side // stride


def test_the_tokenizer_cuts_fills_and_knows_its_words():
    tokenizer = load("triton_models.text_tokenizer.model")
    numbers = tokenizer.read_vocabulary(["dress", "it's", "nice"])
    table = tokenizer.tokens(["It's a NICE dress!", "", "nice " * 200, "été \ud800 dress"], numbers)
    assert table.shape == (4, tokenizer.LENGTH) and table.dtype == np.int64
    assert table[0, :5].tolist() == [3, 1, 4, 2, 0]
    assert not table[1].any()
    assert (table[2] == 4).all()


def test_the_label_step_names_each_class():
    label = load("triton_models.text_labels.model").label
    named = label(np.array([[1], [0]]), ["negative", "positive"])
    assert named.tolist() == [["positive"], ["negative"]]
