"""Images through Keras's own loaders, and what happens when neither place is within reach."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from modelport.errors import DataError
from modelport.recipes import images


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine that reaches no package and no web page."""
    settings = tmp_path / "apt.conf"
    settings.write_text(f'Dir::Etc::sourcelist "{tmp_path}/none.list";\nDir::Etc::sourceparts "-";\n')
    monkeypatch.setenv("APT_CONFIG", str(settings))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    # Keras reads KERAS_HOME once, when it is first imported; another test may have done that.
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path / "keras"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    return tmp_path


@pytest.fixture
def keras_cache(nowhere):
    """Fashion-MNIST as Keras keeps it, three images to train and two to test."""
    folder = nowhere / "keras" / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    for word, count in (("train", 3), ("t10k", 2)):
        pixels = np.arange(count * 784, dtype=np.uint32).astype(np.uint8).tobytes()
        with gzip.open(folder / f"{word}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28) + pixels)
        with gzip.open(folder / f"{word}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">4BI", 0, 0, 8, 1, count) + bytes(range(count)))
    return folder


def test_fashion_mnist_comes_from_kerass_loader_where_the_package_is_out_of_reach(keras_cache):
    said = []
    data = images.fashion_mnist(report=said.append)
    assert data.train.shape == (3, 28, 28) and data.test.shape == (2, 28, 28)
    assert data.train_labels.tolist() == [0, 1, 2] and data.train_labels.dtype == np.int64
    assert "keras.datasets" in data.origin and len(data.labels) == 10
    assert any("out of reach" in line for line in said)


def test_mnist_is_sought_with_kerass_loader_where_the_package_is_out_of_reach(nowhere):
    """Which cannot have it here either: Keras takes nothing but the real file."""
    said = []
    with pytest.raises(DataError, match=r"keras\.datasets\.mnist"):
        images.mnist(report=said.append)
    assert any("trying Keras's loader" in line for line in said)


def test_cifar10_falls_back_to_fashion_mnist_in_its_shape_and_says_so(keras_cache):
    data = images.cifar10()
    assert data.train.shape == (3, 32, 32, 3) and data.train.dtype == np.uint8
    assert (data.train[:, 2:-2, 2:-2, 0] == images.fashion_mnist("loader").train).all()
    assert (data.train[..., 0] == data.train[..., 2]).all() and not data.train[:, :2].any()
    assert data.origin.startswith("Fashion-MNIST") and "CIFAR-10 is out of reach" in data.origin


@pytest.mark.parametrize("where", ["loader", "package"])
def test_a_wanted_place_is_the_only_one(nowhere, where):
    for load in (images.cifar10, images.fashion_mnist, images.mnist):
        with pytest.raises(DataError) as caught:
            load(where)
        assert caught.value.fix


def test_kerass_loader_reads_what_the_packages_reader_reads(keras_cache):
    read = images.fashion_mnist("loader")
    assert (images._idx(keras_cache / "train-images-idx3-ubyte.gz") == read.train).all()
