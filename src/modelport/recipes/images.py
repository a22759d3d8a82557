"""Images for sample models, out of published packages or, where wanted, from Keras's own loaders.

Each function says where its data comes from in the `origin` of what it gives, for the model card.
"""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelport.errors import DataError
from modelport.recipes import published
from modelport.recipes.packages import Report, fetch

WHERE = ("auto", "package", "loader")  # whichever is within reach, packages only, Keras's loaders only
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

# What is to be seen, in ImageNet's words.
PHOTOGRAPHS = {
    "camera.png": ("tripod",),
    "chelsea.png": ("tabby", "tiger cat"),
    "china.jpg": ("palace",),
    "clock_motion.png": ("wall clock", "analog clock"),
    "coffee.png": ("espresso", "cup"),
    "motorcycle_left.png": ("moped", "motor scooter"),
    "rocket.jpg": ("missile",),
}
CENTRE = 0.875  # share of the shorter side that is kept, as is usual for ImageNet
FASHION_LABELS = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Images in two disjoint sets, for training and for testing.

    Attributes:
        train: uint8 [n, height, width] or [n, height, width, 3].
        train_labels: int64 [n].
        test: As `train`.
        test_labels: As `train_labels`.
        labels: The classes' names, in order.
        origin: Where the data comes from, with its licence.
    """

    train: Images
    train_labels: Labels
    test: Images
    test_labels: Labels
    labels: tuple[str, ...]
    origin: str


def mnist(where: str = "auto", report: Report = lambda _: None) -> LabelledImages:
    """Handwritten digits 28x28: 4,000 + 1,000 from a package, else all 60,000 + 10,000 from Keras's loader.

    Raises:
        DataError: They are out of reach.
    """
    digits = tuple("0123456789")
    if where == "loader":
        return _loaded("mnist", digits, "MNIST (LeCun, Cortes, Burges) through keras.datasets, CC BY-SA 3.0")
    try:
        folder = fetch(published.MNIST_5K, report)
    except DataError:
        if where == "package":
            raise
        report(f"the package {published.MNIST_5K} is out of reach; trying Keras's loader")
        return mnist("loader", report)
    with gzip.open(folder / "mnist_5k.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    order = np.random.default_rng(0).permutation(len(table))  # the file is sorted by digit
    images, labels = table[order, :-1].reshape(-1, 28, 28), table[order, -1].astype(np.int64)
    return LabelledImages(
        train=images[:4000],
        train_labels=labels[:4000],
        test=images[4000:],
        test_labels=labels[4000:],
        labels=digits,
        origin=f"5,000 digits of MNIST from the package {published.MNIST_5K} (BSD-3-Clause), 4,000 of them to train",
    )


def fashion_mnist(where: str = "auto", report: Report = lambda _: None) -> LabelledImages:
    """Photographs of clothes 28x28, 60,000 + 10,000; from the Debian package, else from Keras's loader.

    Raises:
        DataError: They are out of reach.
    """
    if where == "loader":
        return _loaded("fashion_mnist", FASHION_LABELS, "Fashion-MNIST (Zalando SE) through keras.datasets, MIT")
    try:
        folder = fetch(published.FASHION_MNIST, report)
    except DataError:
        if where == "package":
            raise
        report("the Debian package is out of reach; trying Keras's loader")
        return fashion_mnist("loader", report)
    return LabelledImages(
        train=_idx(folder / "train-images-idx3-ubyte.gz"),
        train_labels=_idx(folder / "train-labels-idx1-ubyte.gz").astype(np.int64),
        test=_idx(folder / "t10k-images-idx3-ubyte.gz"),
        test_labels=_idx(folder / "t10k-labels-idx1-ubyte.gz").astype(np.int64),
        labels=FASHION_LABELS,
        origin=f"Fashion-MNIST (Zalando SE, MIT) from the Debian package {published.FASHION_MNIST}",
    )


def cifar10(where: str = "auto", report: Report = lambda _: None) -> LabelledImages:
    """Images 32x32 in colour: CIFAR-10 where Keras's loader reaches it, else Fashion-MNIST brought to that shape.

    Args:
        where: `package` does not look for CIFAR-10; `loader` takes nothing else.
        report: For progress.

    Raises:
        DataError: They are out of reach.
    """
    if where != "package":
        report("looking for CIFAR-10")
        try:
            return _loaded("cifar10", CIFAR10_LABELS, "CIFAR-10 (Krizhevsky, 2009) through keras.datasets")
        except DataError:
            if where == "loader":
                raise
    data = fashion_mnist(where, report)
    return replace(
        data,
        train=_as_colour(data.train),
        test=_as_colour(data.test),
        origin=f"{data.origin}, made 32x32 with three equal channels, as CIFAR-10 is out of reach",
    )


def _as_colour(images: Images) -> Images:
    """[n, 28, 28] to [n, 32, 32, 3]."""
    return np.repeat(np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None], 3, axis=3)


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """Photographs of things that ImageNet has a class for.

    Attributes:
        images: uint8 [14, side, side, 3]: seven photographs, then the same mirrored.
        right: bool [14, 1000]: the classes that are to be seen.
        labels: The 1,000 classes.
        origin: Where they come from, with their licence.
    """

    images: Images
    right: NDArray[np.bool_]
    labels: list[str]
    origin: str


def photographs(side: int, report: Report = lambda _: None) -> Photographs:
    """Seven photographs from scikit-image and scikit-learn, their centre brought to `side` x `side` pixels.

    Raises:
        DataError: They are out of reach.
    """
    from PIL import Image
    from sklearn.datasets import load_sample_image

    folder, labels = fetch(published.SKIMAGE, report), imagenet_labels(report)
    words = [label.split(",")[0] for label in labels]
    images, right = [], []
    for file, seen in PHOTOGRAPHS.items():
        picture = Image.fromarray(load_sample_image(file)) if file == "china.jpg" else Image.open(folder / file)
        cut = int(min(picture.size) * CENTRE)
        left, top = ((size - cut) // 2 for size in picture.size)
        centre = picture.convert("RGB").crop((left, top, left + cut, top + cut))
        images.append(np.asarray(centre.resize((side, side), Image.Resampling.BICUBIC)))
        right.append([word in seen for word in words])
    return Photographs(
        images=np.concatenate([np.stack(images), np.stack(images)[:, :, ::-1]]),
        right=np.array(right * 2),
        labels=labels,
        origin=f"photographs from {published.SKIMAGE} (public domain or CC0) and scikit-learn (CC BY): "
        "a man with a camera, a cat, a palace, a clock, coffee, a motorcycle, a rocket; each also mirrored",
    )


def imagenet_labels(report: Report = lambda _: None) -> list[str]:
    """The 1,000 classes of ImageNet in their usual order, such as `tabby, tabby cat`.

    Raises:
        DataError: They are out of reach.
    """
    folder = fetch(published.TIMM, report)
    words = (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8")
    lemma = dict(csv.reader(io.StringIO(words), delimiter="\t", quoting=csv.QUOTE_NONE))
    return [lemma[synset] for synset in (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()]


def _loaded(name: str, labels: tuple[str, ...], origin: str) -> LabelledImages:
    from modelport.recipes import loaders  # imports keras

    train, train_labels, test, test_labels = loaders.load(name)
    return LabelledImages(
        train=train,
        train_labels=train_labels.astype(np.int64),
        test=test,
        test_labels=test_labels.astype(np.int64),
        labels=labels,
        origin=origin,
    )


def _idx(path: Path) -> Images:
    """An array in the IDX format: two zero bytes, type 8 (uint8), the number of axes, their sizes, the elements."""
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4).astype(int)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
