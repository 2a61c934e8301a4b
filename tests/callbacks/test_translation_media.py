"""Tables of translations, maps of the attention, and the histogram of lengths."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from callbacks.media import Image, Media, Table
from callbacks.translation_media import TranslatedTexts, TranslationLengths
from datamodules.parallel_text import ParallelTextDataModule
from datamodules.sampler import BatchIndex
from tests.conformance import CASES
from toolkit.errors import UserError
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.language.networks.attention_gru import AttentionGRU
from toolkit.language.translation import Translation
from toolkit.vision.image_classification import ImageClassification


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> dict[str, Media]:
    found: dict[str, Media] = {}
    monkeypatch.setattr("callbacks.translation_media.log_media", lambda trainer, key, media: found.update({key: media}))
    return found


def test_pictures(logged: dict[str, Media]) -> None:
    data = ParallelTextDataModule(tokenizer=CharTokenizer())
    V = data.target_vocabulary_size
    task = Translation(AttentionGRU(V, V, 8, 8), data.source_vocabulary, data.target_vocabulary).eval()
    trainer: Any = SimpleNamespace(sanity_checking=False, fast_dev_run=False, current_epoch=0, is_global_zero=True)
    texts, lengths = TranslatedTexts(count=3, maps=2), TranslationLengths()
    texts.on_validation_epoch_start(trainer, task)
    lengths.on_test_epoch_start(trainer, task)
    before = torch.random.get_rng_state()
    for first in (0, 5):
        batch = data.dataset("val")[BatchIndex(0, torch.arange(first, first + 5))]
        texts.on_validation_batch_end(trainer, task, task.translate(batch, 1), batch, 0)
        lengths.on_test_batch_end(trainer, task, task.translate(batch, 1), batch, 0)
    texts.on_validation_epoch_end(trainer, task)
    lengths.on_test_epoch_end(trainer, task)
    assert torch.equal(before, torch.random.get_rng_state())
    table = logged["val/translations"]
    assert isinstance(table, Table)
    assert table.columns == ["source", "translation", "reference"]
    assert {(row[0], row[2]) for row in table.rows} <= set(data.pairs["val"])
    assert len(table.rows) == 3
    for key in ("val/attention", "test/lengths"):
        picture = logged[key]
        assert isinstance(picture, Image)
        assert picture.pixels.std() > 5


def test_mistakes() -> None:
    with pytest.raises(UserError, match="need count and every_n_epochs"):
        TranslatedTexts(count=0)
    task = CASES[ImageClassification].build(CASES[ImageClassification].net())
    with pytest.raises(UserError, match="ImageClassification does not translate"):
        TranslatedTexts().setup(Any, task, "fit")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="TranslationLengths: ImageClassification does not translate"):
        TranslationLengths().setup(Any, task, "fit")  # type: ignore[arg-type]
