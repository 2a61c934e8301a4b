"""Predicted masks as files, through the command line."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callbacks.mask_colors import class_colors
from cli import main
from tests import forked
from tests.conformance import SEGMENTING

QUICK = ["--trainer.accelerator=cpu", "--wandb.enabled=false"]


@pytest.fixture
def run(workdir: Path) -> str:
    made = main(
        ["fit", *SEGMENTING, *QUICK, "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--data.val_size=5"]
    )
    return str(made.run_folder)


def table(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as mask:
        return np.asarray(mask)


def test_files_get_masks_of_their_own_size(run: str) -> None:
    draw = np.random.default_rng(0)
    for folder, size in (("a", (30, 40)), ("b", (16, 16))):
        Path("pictures", folder).mkdir(parents=True)
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(f"pictures/{folder}/one.png")
    Path("pictures/b/two.png").write_bytes(b"no image")
    turned = Image.fromarray(draw.integers(0, 256, (10, 20, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save("pictures/b/turned.jpg", exif=exif)
    main(
        ["predict", "--ckpt_path", run, "--input", "pictures", "--output", "out/rows.csv", "--trainer.accelerator=cpu"]
    )
    rows = table("out/rows.csv")
    assert [row["path"] for row in rows] == [
        f"pictures/{n}" for n in ("a/one.png", "b/one.png", "b/turned.jpg", "b/two.png")
    ]
    assert "cannot read" in rows[3]["error"]
    assert rows[3]["mask"] == rows[3]["share_0"] == ""
    masks = sorted(path.name for path in Path("out/rows_masks").iterdir())
    assert masks == ["000000_one.png", "000001_one.png", "000002_turned.png"]
    for row, size in zip(rows, ((40, 30), (16, 16), (10, 20)), strict=False):
        with Image.open(Path("out", row["mask"])) as mask:
            assert (mask.mode, mask.size) == ("P", size)
            assert mask.getpalette()[:33] == class_colors(11).flatten().tolist()
            values = np.asarray(mask)
        assert values.max() <= 10
        shares = [float(value) for name, value in row.items() if name.startswith("share_")]
        assert len(shares) == 11
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        assert 0 < float(row["confidence"]) <= 1
    last = pixels("out/rows_masks/000001_one.png")  # of the network's own size
    assert float(rows[1]["share_background"]) == pytest.approx((last == 0).mean(), abs=1e-5)


def test_the_split_of_the_data_and_two_ranks(run: str) -> None:
    predict = [
        "predict",
        "--ckpt_path",
        run,
        "--trainer.accelerator=cpu",
        "--data.test_size=11",
        "--data.eval_batch_size=4",
    ]
    main([*predict, "--output=one.csv"])
    done = forked.run(
        [*predict, "--output=two.csv", "--trainer.devices=2", "--trainer.strategy=ddp"], ranks=2, cwd=Path.cwd()
    )
    assert done.returncode == 0, done.stderr
    one, two = table("one.csv"), table("two.csv")
    assert [row["path"] for row in two] == [f"test[{i}]" for i in range(11)]
    for a, b in zip(one, two, strict=True):
        first, second = (pixels(row["mask"]) for row in (a, b))
        assert first.shape == (16, 16)
        assert np.array_equal(first, second)


def test_colours_are_those_of_pascal_voc() -> None:
    colors = class_colors()
    assert colors[15].tolist() == [192, 128, 128]  # person
    assert len(np.unique(colors, axis=0)) == 256
