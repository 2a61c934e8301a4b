"""What classifiers of texts score that know little. Shape legend: M texts, K classes."""

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from toolkit.types import Baseline

MOST_TEXTS = 20_000
"""Above, logistic regression would take longer than it is worth."""


class TextBaselines:
    """The most frequent class, and logistic regression on weighted counts of words and pairs of words.

    Args:
        texts: Of the training split.
        label: ``(M,)``, int64.
        num_classes: K.
    """

    def __init__(self, texts: Sequence[str], label: Tensor, num_classes: int) -> None:
        self.texts, self.label, self.num_classes = texts, label, num_classes

    def of(self, texts: Sequence[str], label: Tensor) -> Baseline:
        """Their scores on texts with labels ``(M,)``."""
        majority = torch.full_like(label, int(self.label.bincount().argmax()))
        others: tuple[Baseline, ...] = ()
        if len(self.texts) <= MOST_TEXTS and (predicted := self._regress(texts)) is not None:
            others = (Baseline("TF-IDF, logistic regression", self._scores(predicted, label)),)
        return Baseline("majority class", self._scores(majority, label), others)

    @cached_property
    def _fitted(self) -> tuple[Any, Any] | None:
        return _fit(self.texts, self.label)

    def _regress(self, texts: Sequence[str]) -> Tensor | None:
        if self._fitted is None:
            return None
        words, classifier = self._fitted
        return torch.from_numpy(classifier.predict(words.transform(texts)))

    def _scores(self, predicted: Tensor, label: Tensor) -> dict[str, float]:
        from sklearn.metrics import f1_score

        f1 = f1_score(label, predicted, labels=range(self.num_classes), average="macro", zero_division=0.0)
        return {"acc": float((predicted == label).double().mean()), "f1": float(f1)}


def _fit(texts: Sequence[str], label: Tensor) -> tuple[Any, Any] | None:
    """None: no text has a word, of two characters at least."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words, classifier = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0, max_iter=200)
    try:
        counts = words.fit_transform(texts)
    except ValueError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits of a baseline do not matter
        classifier.fit(counts, label.numpy())
    return words, classifier
