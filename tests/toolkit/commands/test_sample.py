"""The verb `sample`: what it writes, and what it says of mistakes."""

from pathlib import Path

import pytest
from PIL import Image

from cli import main
from tests.conformance import CASES
from toolkit.generative.gan import GAN
from toolkit.vision.image_classification import ImageClassification

QUICK = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.accelerator=cpu", "--wandb.enabled=false"]  # fmt: skip


@pytest.fixture
def run(workdir: Path) -> str:
    return str(main(["fit", *CASES[GAN].arguments, *QUICK]).run_folder)


def test_grid_and_files(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(Path(run).glob("media/val/samples/*.png"))) == 1
    assert len(list(Path(run).glob("media/val/interpolation/*.png"))) == 1
    for name, count in (("a", "12"), ("b", "5")):
        main(["sample", run, "--count", count, "--seed", "3", "--class", "7", "2", "--output", name])
    assert "(12 images, grid.png)" in capsys.readouterr().out
    assert len(list(Path("a").glob("*_7.png"))) == len(list(Path("a").glob("*_2.png"))) == 6
    for file, size in (("a/00000_7.png", (8, 8)), ("a/grid.png", (4 + 2 * 36, 4 + 6 * 36))):
        with Image.open(file) as picture:
            assert picture.size == size
    for file in Path("b").glob("0*.png"):  # the same seed, the same images
        assert file.read_bytes() == (Path("a") / file.name).read_bytes()


def test_mistakes(run: str, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classifier = main(["fit", *CASES[ImageClassification].arguments, *QUICK]).run_folder
    for words, message in [
        ([run, "--class", "cat"], "no class 'cat'; choose from 0, 1, 2"),
        ([run, "--count", "0"], "count: need at least 1, got 0"),
        ([], "name one with --ckpt_path"),
        ([str(classifier)], "ImageClassification draws no images and writes no text"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            main(["sample", *words])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
