"""Texts and ratings for sample models, out of published packages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelport.recipes import published
from modelport.recipes.packages import Package, Report, fetch

Labels = NDArray[np.int64]


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
    table = _table(published.WIDEDEEP, "WomensClothingE-CommerceReviews.parquet.brotli", report)
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
        origin=f"Women's E-Commerce Clothing Reviews (CC0) from the package {published.WIDEDEEP}; 3 stars left out",
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
    table = _table(published.WIDEDEEP, "MovieLens100k_data.parquet.brotli", report)
    titles = _table(published.WIDEDEEP, "MovieLens100k_items.parquet.brotli", report)["movie_title"]
    return Ratings(
        user=np.array(table["user_id"], dtype=np.int64) - 1,
        item=np.array(table["movie_id"], dtype=np.int64) - 1,
        stars=np.array(table["rating"], dtype=np.float32),
        titles=tuple(titles),
        origin=f"MovieLens-100k (GroupLens; research use, not redistributed) from the package {published.WIDEDEEP}",
    )


def _table(package: Package, file: str, report: Report) -> dict[str, list[Any]]:
    from pyarrow import parquet

    columns: dict[str, list[Any]] = parquet.read_table(fetch(package, report) / file).to_pydict()
    return columns
