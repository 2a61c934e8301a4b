"""Samples of a language model as a table."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from callbacks.generated_text import GeneratedText
from callbacks.media import Table
from toolkit.errors import UserError
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.language.language_model import LanguageModel
from toolkit.language.networks.rnn import RNN
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.networks.small_cnn import SmallCNN


def test_table_of_the_same_draws_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Table] = []
    monkeypatch.setattr("callbacks.generated_text.log_media", lambda trainer, key, media: logged.append(media))
    tokenizer = CharTokenizer(fallback=False).trained(["abc"], None)
    task = LanguageModel(RNN(tokenizer.size), tokenizer.vocabulary()).train()
    trainer: Any = SimpleNamespace(sanity_checking=False, fast_dev_run=False, current_epoch=0)
    before = torch.random.get_rng_state()
    callback = GeneratedText(prompts=["a", "bc"], count=3, tokens=20)
    for _ in range(2):
        callback.on_validation_epoch_end(trainer, task)
    assert torch.equal(before, torch.random.get_rng_state())
    assert task.training
    first, second = logged
    assert first.columns == ["prompt", "text"]
    assert first.rows == second.rows
    assert [row[0] for row in first.rows] == ["a"] * 3 + ["bc"] * 3
    assert all(len(row[1]) == 20 and set(row[1]) <= set("abc") for row in first.rows)
    trainer.sanity_checking = True
    callback.on_validation_epoch_end(trainer, task)
    assert len(logged) == 2


def test_mistakes() -> None:
    with pytest.raises(UserError, match="need a prompt, and count"):
        GeneratedText(count=0)
    with pytest.raises(UserError, match="temperature"):
        GeneratedText(temperature=-1)
    task = ImageClassification(SmallCNN(in_channels=1, num_classes=10), 10)
    with pytest.raises(UserError, match="ImageClassification writes no text"):
        GeneratedText().setup(Any, task, "fit")  # type: ignore[arg-type]
