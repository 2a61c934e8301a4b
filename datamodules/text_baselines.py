"""What classifiers of texts score that know little. Shape legend: M texts, K classes."""

import warnings
from collections.abc import Sequence
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
        self._fitted: tuple[Any, Any] | None = None

    def of(self, texts: Sequence[str], label: Tensor) -> Baseline:
        """Their scores on texts with labels ``(M,)``."""
        majority = torch.full_like(label, int(self.label.bincount().argmax()))
        others: tuple[Baseline, ...] = ()
        if len(self.texts) <= MOST_TEXTS:
            others = (Baseline("TF-IDF, logistic regression", self._scores(self._regress(texts), label)),)
        return Baseline("majority class", self._scores(majority, label), others)

    def _regress(self, texts: Sequence[str]) -> Tensor:
        if self._fitted is None:
            self._fitted = _fit(self.texts, self.label)
        words, classifier = self._fitted
        return torch.from_numpy(classifier.predict(words.transform(texts)))

    def _scores(self, predicted: Tensor, label: Tensor) -> dict[str, float]:
        from sklearn.metrics import f1_score

        f1 = f1_score(label, predicted, labels=range(self.num_classes), average="macro", zero_division=0.0)
        return {"acc": float((predicted == label).double().mean()), "f1": float(f1)}


def _fit(texts: Sequence[str], label: Tensor) -> tuple[Any, Any]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words, classifier = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits of a baseline do not matter
        classifier.fit(words.fit_transform(texts), label.numpy())
    return words, classifier
