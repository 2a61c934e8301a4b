"""What is drawn of the lengths of texts, and where nothing can be."""

from pathlib import Path

import pytest

from callbacks.media import Image
from cli import main
from toolkit.vision.image_classification import ImageClassification

QUICK = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--wandb.enabled=false"]  # fmt: skip


def test_pictures_of_a_text_classifier(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its default ones: lengths and confusion."""
    figures = []
    of_figure = Image.of_figure
    monkeypatch.setattr(Image, "of_figure", lambda figure: figures.append(figure) or of_figure(figure))
    Path("train.csv").write_text("text,label\n" + "".join(f"{'ab' * n},{n % 2}\n" for n in range(1, 41)))
    made = main(["fit", "--model=TextClassification", "--model.net=BagOfEmbeddings", "--data=TextClassificationDataModule",
                 "--data.train=train.csv", "--data.tokenizer=CharTokenizer", "--data.batch_size=8", *QUICK])  # fmt: skip
    (legend,) = [axes.get_legend() for figure in figures for axes in figure.axes if axes.get_legend()]
    texts = [text.get_text() for text in legend.get_texts()]
    lengths = made.datamodule.lengths("train")
    assert texts[0] == f"train: 36, median {lengths.float().quantile(0.5):.0f}, longest {lengths.max()}"
    assert texts[1].startswith("val: 4, median")
    assert len(texts) == 2
    for key in ("lengths", "val/confusion_matrix"):
        assert len(list((made.run_folder / "media" / key).iterdir())) == 1


def test_data_that_does_not_know_is_refused_before_the_training(
    workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageClassification, "step", lambda *args: pytest.fail("trained before"))
    words = ["fit", "--model=ImageClassification", "--model.net=SmallCNN", "--data=DigitsDataModule", *QUICK]
    with pytest.raises(SystemExit):
        main([*words, "--trainer.callbacks=LengthHistogram"])
    assert "DigitsDataModule does not say how long its texts are" in capsys.readouterr().err
