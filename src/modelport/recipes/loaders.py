"""Keras's own dataset loaders, for machines that reach the places where these are published."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelport.errors import DataError

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

PROBE_TIMEOUT_S = 5.0
# loader -> its file in Keras's cache, and where Keras takes it from
ORIGINS = {
    "mnist": ("mnist.npz", "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"),
    "fashion_mnist": (
        "fashion-mnist/t10k-images-idx3-ubyte.gz",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/t10k-images-idx3-ubyte.gz",
    ),
    "cifar10": ("cifar-10-batches-py-target", "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"),
}

Split = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def load(name: str) -> Split:
    """Images and labels for training and for testing, as `keras.datasets.<name>` gives them.

    Args:
        name: One of `ORIGINS`.

    Raises:
        DataError: The data is neither in Keras's cache nor within reach.
    """
    cached, url = ORIGINS[name]
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    try:
        if not (home / "datasets" / cached).exists():
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the constants above
            with urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S):  # noqa: S310
                pass
        (train, train_labels), (test, test_labels) = getattr(keras.datasets, name).load_data()
    except Exception as exc:  # Keras raises a bare Exception when a download fails
        raise DataError(
            f"keras.datasets.{name} cannot be loaded",
            why=f"{type(exc).__name__}: {exc}",
            fix=f"check that this machine reaches {url}, or use the data that ships in packages (--data package)",
            package=name,
        ) from exc
    return train, np.ravel(train_labels), test, np.ravel(test_labels)
