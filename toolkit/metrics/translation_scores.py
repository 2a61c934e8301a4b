"""BLEU and chrF of a whole corpus, by sacrebleu, on any number of ranks.

Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002; Popović, "chrF: character
n-gram F-score for automatic MT evaluation", WMT 2015; Post, "A Call for Clarity in Reporting BLEU Scores", WMT 2018.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from toolkit.errors import UserError


class CorpusScore(Metric, ABC):
    """Keeps the texts themselves, as bytes, and scores all at once: a mean over batches would be another number.

    Raises:
        UserError: The package is missing.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    size: list[Tensor]
    """How many bytes each text has: of a translation, then of its reference."""
    text: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _library()  # it says what is missing
        self.add_state("size", [], dist_reduce_fx="cat")
        self.add_state("text", [], dist_reduce_fx="cat")

    @abstractmethod
    def scorer(self) -> Any:
        """One of sacrebleu's metrics, with its defaults."""

    def update(self, translation: Sequence[str], reference: Sequence[str]) -> None:
        """Add a batch of texts."""
        texts = [text.encode() for pair in zip(translation, reference, strict=True) for text in pair]
        self.size.append(torch.tensor([len(text) for text in texts], device=self.device))
        self.text.append(torch.tensor(list(b"".join(texts)), dtype=torch.uint8, device=self.device))

    def compute(self) -> Tensor:
        """Over all texts of all ranks, from 0 to 100."""
        translation, reference = self._texts()
        return torch.tensor(self.scorer().corpus_score(translation, [reference]).score, dtype=torch.float32)

    def signature(self) -> str:
        """By which the score can be compared with others."""
        scorer = self.scorer()
        scorer.corpus_score(["a"], [["a"]])  # it knows the number of references only then
        return str(scorer.get_signature())

    def _texts(self) -> tuple[list[str], list[str]]:
        sizes = _together(self.size).tolist()
        data = bytes(_together(self.text).cpu().numpy())
        ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
        texts = [data[first:stop].decode() for first, stop in pairwise(ends)]
        return texts[::2], texts[1::2]


class BLEU(CorpusScore):
    """BLEU of detokenised, cased text, with the tokenisation 13a.

    >>> score = BLEU()
    >>> score.update(["The cat sat on the mat."], ["The cat sat on the mat."])
    >>> round(score.compute().item(), 1), score.signature().split("|")[:4]
    (100.0, ['nrefs:1', 'case:mixed', 'eff:no', 'tok:13a'])
    """

    def scorer(self) -> Any:
        """Of BLEU."""
        return _library().BLEU()


class CHRF(CorpusScore):
    """chrF2: F-score of character n-grams, recall counting twice."""

    def scorer(self) -> Any:
        """Of chrF."""
        return _library().CHRF()


def corpus_scores(translation: Sequence[str], reference: Sequence[str]) -> dict[str, float]:
    """Both scores of texts."""
    found = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        metric.update(translation, reference)
        found[name] = float(metric.compute())
    return found


def _together(parts: list[Tensor] | Tensor) -> Tensor:
    return parts if isinstance(parts, Tensor) else torch.cat(parts)


def _library() -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        raise UserError(
            "BLEU needs the package sacrebleu, which is not installed; write python -m pip install "
            '"fulgurite[language]".'
        ) from error
    return sacrebleu
