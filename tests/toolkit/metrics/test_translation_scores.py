"""BLEU and chrF are sacrebleu's, in one batch or many, on one rank or two."""

import sacrebleu
import torch

from toolkit.metrics.translation_scores import BLEU, CHRF, CorpusScore, corpus_scores

REFERENCE = [
    "A man in an orange hat starring at something.",
    "A Boston Terrier is running on lush green grass in front of a white fence.",
    "Five people wearing winter jackets and helmets stand in the snow, with snowmobiles in the background.",
    "Zwei Mädchen: naïve “quotes”, 東京.",
]
TRANSLATION = [
    "A man in an orange hat is staring at something.",
    "A Boston Terrier runs on green grass in front of a white fence.",
    "Five people in winter jackets and helmets stand in the snow with snowmobiles in the background.",
    "",
]


def test_equal_sacrebleu_s() -> None:
    scores = corpus_scores(TRANSLATION, REFERENCE)
    torch.testing.assert_close(scores["bleu"], sacrebleu.corpus_bleu(TRANSLATION, [REFERENCE]).score, rtol=1e-6, atol=0)
    torch.testing.assert_close(scores["chrf"], sacrebleu.corpus_chrf(TRANSLATION, [REFERENCE]).score, rtol=1e-6, atol=0)
    assert scores["bleu"] > 40


def test_batches_give_the_score_of_all_texts_and_not_a_mean() -> None:
    for metric in (BLEU(), CHRF()):
        metric.update(TRANSLATION[:1], REFERENCE[:1])
        first = metric.compute()
        metric.update(TRANSLATION[1:], REFERENCE[1:])
        whole = type(metric)()
        whole.update(TRANSLATION, REFERENCE)
        assert metric.compute() == whole.compute() != first
        metric.reset()
        metric.update(TRANSLATION[3:], REFERENCE[3:])
        assert metric.compute() == 0


def test_two_ranks_give_what_one_gives() -> None:
    """What torchmetrics does between ranks: states are concatenated, here of ranks with different numbers of texts."""

    def on(metric: type[CorpusScore], rows: slice) -> CorpusScore:
        rank = metric()
        rank.update(TRANSLATION[rows], REFERENCE[rows])
        return rank

    for kind in (BLEU, CHRF):
        ranks = [on(kind, slice(0, 3)), on(kind, slice(3, 4))]

        def gather(tensor: torch.Tensor, group: object, ranks: list[CorpusScore] = ranks) -> list[torch.Tensor]:
            name = "text" if tensor.dtype == torch.uint8 else "size"
            return [torch.cat(getattr(rank, name)) for rank in ranks]

        together = on(kind, slice(0, 3))
        together.sync(dist_sync_fn=gather, distributed_available=lambda: True)
        together._to_sync = False
        assert together.compute() == on(kind, slice(0, 4)).compute()


def test_signature() -> None:
    assert BLEU().signature().startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert CHRF().signature().startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")
