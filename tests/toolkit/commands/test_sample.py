"""The verb `sample`: what it writes, and what it says of mistakes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from cli import main
from tests.conformance import CASES
from toolkit.commands.sample import sample
from toolkit.errors import UserError
from toolkit.generative.gan import GAN
from toolkit.language.language_model import LanguageModel
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


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ([], "cuda"),
        (["--accelerator=gpu"], "cuda"),
        (["--accelerator", "cuda"], "cuda"),
        (["--accelerator=cpu"], "cpu"),
    ],
)
def test_it_draws_on_the_device_that_there_is(words: list[str], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr("toolkit.commands.sample.take_checkpoint", lambda args, parts: ("checkpoint", list(args)))
    moved: list[torch.device] = []
    loaded = SimpleNamespace(to=lambda device: moved.append(device))
    monkeypatch.setattr("toolkit.commands.sample.load", lambda checkpoint: loaded)
    with pytest.raises(UserError, match="draws no images"):
        sample(words, parts=None)  # type: ignore[arg-type]
    assert [device.type for device in moved] == [kind]


def test_mistakes(run: str, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classifier = main(["fit", *CASES[ImageClassification].arguments, *QUICK]).run_folder
    for words, message in [
        ([run, "--class", "cat"], "no class 'cat'; choose from 0, 1, 2"),
        ([run, "--count", "0"], "count: need at least 1, got 0"),
        ([], "name one with --ckpt_path"),
        ([run, "--accelerator", "abacus"], "--accelerator: there is no 'abacus' here; write auto, cpu"),
        ([str(classifier)], "ImageClassification draws no images and writes no text"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            main(["sample", *words])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


def test_text_is_streamed_from_the_checkpoint_alone(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = main(["fit", *CASES[LanguageModel].arguments, *QUICK]).run_folder
    run = str(folder)
    (table,) = folder.glob("media/val/samples/*.csv")
    assert table.read_text().startswith("prompt,text\n")
    capsys.readouterr()
    words = ["sample", run, "--prompt", "The class", "--tokens", "30", "--seed", "5", "--count", "2"]
    texts = main(words)
    assert capsys.readouterr().out == "\n".join(texts) + "\n"
    assert len(set(texts)) == 2
    assert all(text.startswith("The class") and len(text) > 20 for text in texts)
    assert main(words) == texts
    greedy = [main([*words[:-1], "1", "--temperature", "0", "--seed", seed]) for seed in "12"]
    assert greedy[0] == greedy[1]
    assert main([*words, "--temperature", "0.8", "--top_k", "3", "--top_p", "0.9"]) != texts
    capsys.readouterr()
    for more, message in [
        (["--tokens", "0"], "tokens: need at least 1, got 0"),
        (["--temperature", "-1"], "temperature: need a number >= 0"),
        (["--top_p", "2"], "need 0 < top_p <= 1, got 2.0"),
        (
            ["--class", "7"],
            "unrecognized arguments: --class 7. Write python cli.py sample RUN_FOLDER_OR_CHECKPOINT [--prompt",
        ),
    ]:
        with pytest.raises(SystemExit) as stopped:
            main(["sample", run, *more])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
