"""A dictionary learnt from pairs of texts, and translation word by word: what a network must beat.

Brown et al., "The Mathematics of Statistical Machine Translation: Parameter Estimation", Computational Linguistics,
1993, model 1. Shape legend: L links, each of a source word and a target word of one pair; P different ones.
"""

import re
from collections.abc import Sequence

import numpy as np

from datamodules.parallel_files import Pair

ROUNDS = 5
MOST_LINKS = 2**23
"""Some hundred megabytes; of a larger corpus the first pairs are learnt from."""
WORD = re.compile(r"\w+|[^\w\s]")


class Dictionary:
    """For each source word the target word that it is most often aligned with, by expectation maximisation.

    Args:
        pairs: What it is learnt from.

    >>> dictionary = Dictionary([("das Haus", "the house"), ("das Buch", "the book"), ("ein Buch", "a book")])
    >>> dictionary.translate("ein Haus, das Buch")
    'a house, the book'
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        numbers: tuple[dict[str, int], dict[str, int]] = {}, {}
        links: list[np.ndarray] = []
        count = size = 0
        for pair in pairs:
            if size > MOST_LINKS:
                break
            source, target = (
                np.array([known.setdefault(word, len(known)) for word in WORD.findall(text)], dtype=np.int64)
                for text, known in zip(pair, numbers, strict=True)
            )
            places = np.repeat(np.arange(len(target)) + count, len(source))  # which target word of the corpus
            links.append(np.stack([np.tile(source, len(target)), np.repeat(target, len(source)), places]))
            count += len(target)
            size += len(target) * len(source)
        source, target, place = np.concatenate(links, axis=1)  # each (L,)
        kinds, kind = np.unique(source * len(numbers[1]) + target, return_inverse=True)  # (P,), (L,)
        of_source = kinds // len(numbers[1])
        probability = np.ones(len(kinds))
        for _ in range(ROUNDS):
            share = probability[kind]
            share /= np.bincount(place, share, minlength=count)[place]
            counts = np.bincount(kind, share, minlength=len(kinds))
            probability = counts / np.bincount(of_source, counts)[of_source]
        order = np.lexsort((probability, of_source))
        last = np.flatnonzero(np.append(np.diff(of_source[order]), 1))  # the most probable of each source word
        best = kinds[order[last]] % len(numbers[1])
        words = list(numbers[1])
        self.entries = {word: words[number] for word, number in zip(numbers[0], best.tolist(), strict=True)}

    def translate(self, text: str) -> str:
        """Word by word, in the order of the source; words that are not in it stay as they are."""
        return WORD.sub(lambda found: self.entries.get(found[0], found[0]), text)
