"""The reviews as word numbers, and the vocabulary that was counted in them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from triton_models.text_tokenizer import model as tokenizer

from modelport.recipes import tables
from modelport.recipes.recipe import Options

LABELS = ("negative", "positive")


@dataclass(frozen=True, kw_only=True)
class EncodedReviews:
    """Word numbers INT64 [reviews, words], 0 for padding, with labels, texts and the vocabulary."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    test_texts: list[str]
    vocabulary: list[str]
    labels: tuple[str, str] = LABELS
    origin: str

    @property
    def numbers(self) -> int:
        """How many word numbers there are, those of padding and of unknown words included."""
        return len(self.vocabulary) + tokenizer.UNKNOWN + 1


def load(options: Options) -> EncodedReviews:
    """The reviews; the vocabulary is every word that stands in at least three reviews of the training set."""
    data = tables.reviews(positive=4000, test=600, report=options.report)
    counts = Counter(word for text in data.train for word in set(tokenizer.words(text)))
    vocabulary = sorted(word for word, count in counts.items() if count >= 3)
    numbers = tokenizer.read_vocabulary(vocabulary)
    rows = options.rows(len(data.train))
    return EncodedReviews(
        train=tokenizer.tokens(data.train[:rows], numbers),
        train_labels=data.train_labels[:rows],
        test=tokenizer.tokens(data.test, numbers),
        test_labels=data.test_labels,
        test_texts=data.test,
        vocabulary=vocabulary,
        origin=f"{data.origin}: {len(data.train)} reviews to train, {len(data.test)} to score, half of them negative",
    )
