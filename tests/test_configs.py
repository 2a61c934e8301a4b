"""Every config runs: one batch of everything, on small data of the layout it asks for."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from cli import main
from tests.conftest import ACCELERATOR, PRECISION, ROOT
from tests.datamodules.detection_data import coco, voc
from tests.pretrained import tiny_bert, tiny_gpt2

FILES = [*(ROOT / "configs").rglob("*.yaml"), *ROOT.glob("examples/*.yaml")]
CONFIGS = sorted(p.relative_to(ROOT).as_posix() for p in FILES if p.parent.name != "cluster")  # job templates
OVERLAYS = [c for c in CONFIGS if c.startswith(("configs/trainer", "configs/logger"))]
RUNNABLE = [c for c in CONFIGS if c not in OVERLAYS]
CPU_OVERLAYS = {"cpu", "cpu_bf16", "debug", "deterministic", "no_wandb", "bf16_mixed", "bf16_true", "compile"}
TRANSFORMER = ["--model.net=ViT", "--model.net.patch_size=4", "--model.net.dim=8", "--model.net.heads=2"]


def idx(array: np.ndarray) -> bytes:
    """The file format of MNIST: two zero bytes, type, number of dimensions, dimensions, bytes."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return head + array.astype(np.uint8).tobytes()


CIFAR = [
    ("cifar-10-batches-py", [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"], "labels", 10),
    ("cifar-100-python", ["train", "test", "meta"], "fine_labels", 100),
]


@pytest.fixture
def data(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A value for every place where a config of ours expects data: fabricated, small, of odd sizes for evaluation."""
    draw = np.random.default_rng(0)
    for name in ("MNIST", "FashionMNIST"):
        raw = workdir / "data" / name / "raw"
        raw.mkdir(parents=True)
        for split, n in (("train", 400), ("t10k", 41)):
            (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(draw.integers(0, 256, (n, 28, 28))))
            (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(np.arange(n) % 10))
    labels = np.arange(1200) % 10
    images = draw.integers(0, 256, (1200, 32, 32, 3), dtype=np.uint8)
    np.savez("cifar.npz", train_images=images, train_labels=labels, test_images=images[:41], test_labels=labels[:41])
    for name in ("n01", "n02"):
        for split, n in (("train", 60), ("val", 4 + (name == "n02"))):
            folder = workdir / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                Image.fromarray(draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    for folder, names, label, classes in CIFAR:
        (workdir / "data" / folder).mkdir()
        for name in names:
            n = 201 if name.startswith("test") else 200
            batch = {"data": images[:n].reshape(n, -1), label: [i % classes for i in range(n)]}
            batch |= {"label_names": [], "fine_label_names": []}
            (workdir / "data" / folder / name).write_bytes(pickle.dumps(batch))
    monkeypatch.setattr(
        "torchvision.datasets.cifar.check_integrity", lambda *args: True
    )  # whose sums are the real files'
    words = ["the quick brown fox", "jumps over", "the lazy dog"]
    Path("text.txt").write_text("\n".join(words[n] for n in draw.integers(0, 3, 1500)))
    Path("names.txt").write_text("\n".join(f"{words[n % 3].split()[0]}{n}" for n in range(300)))
    for stage, n in (("train", 300), ("val", 21), ("test", 21)):
        for language in ("de", "en"):
            lines = [f"{words[i % 3]} {language} {stage} {i}" for i in range(n)]
            Path(f"{stage}.{language}").write_text("\n".join(lines))
    rows = [f"{words[n % 3]} {n},{'abc'[n % 3]}" for n in range(300)]
    for split, some in (("train", rows[:200]), ("val", rows[200:241]), ("test", rows[259:])):
        Path(f"{split}.csv").write_text("\n".join(["text,label", *some]))
    coco(Path("coco"), count=24)
    objects = {f"{n:06d}": [("dog" if n % 2 else "cat", 0, (3, 4, 25, 18))] for n in range(24)}
    voc(Path("voc"), {"train": list(objects)[:12], "val": list(objects)[12:19], "test": list(objects)[19:]}, **objects)
    scenes(Path("scenes"))
    return {"data.path": "cifar.npz", "data.root": "images", "text": "text.txt", "lines": "names.txt"}


def scenes(folder: Path) -> None:
    """Images, masks of three classes, and the same as polygons in COCO's JSON."""
    draw = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    regions: list[dict[str, Any]] = []
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(60):
        mask = np.zeros((40, 48), dtype=np.uint8)
        mask[5 : 20 + i % 7, 3:30], mask[30:, 20:] = 1, 2
        Image.fromarray(draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / "images" / f"{i}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
        images.append({"id": 3 * i, "file_name": f"{i}.png", "height": 40, "width": 48})
        for category, box in ((1, (3, 5, 27, 15 + i % 7)), (2, (20, 30, 28, 10))):
            left, top, width, height = box
            corners = [left, top, left + width, top, left + width, top + height, left, top + height]
            region = {"image_id": 3 * i, "category_id": category, "bbox": box, "segmentation": [corners], "iscrowd": 0}
            regions.append({"id": len(regions) + 1, "area": width * height, **region})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    document = {"images": images, "annotations": regions, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document))


def places(name: str, part: dict[str, Any], path: str) -> list[str]:
    """Where an argument is given, in a part of a config or in those within it."""
    arguments = part.get("init_args", {})
    found = [f"{path}.{name}"] if name in arguments else []
    within = [(key, value) for key, value in arguments.items() if isinstance(value, dict) and "class_path" in value]
    return found + [place for key, value in within for place in places(name, value, f"{path}.{key}")]


def overrides(config: str, data: dict[str, str]) -> list[str]:
    """Point a config at the fabricated data, and make what needs another machine run here."""
    content = yaml.safe_load((ROOT / config).read_text())
    kind = content["data"]["class_path"]
    words = [f"--trainer.accelerator={ACCELERATOR}", "--trainer.devices=1", f"--trainer.precision={PRECISION}"]
    if kind == "NPZDataModule":
        words += [f"--data.path={data['data.path']}"]
    if kind == "TextDataModule" and "path" in content["data"]["init_args"]:
        words += [f"--data.path={data['text']}"]
    if kind == "TextClassificationDataModule" and "train" in content["data"]["init_args"]:
        words += [f"--data.{split}={split}.csv" for split in ("train", "val", "test")]
        words += ["--data.text_column=text", "--data.label_column=label"]
    if content["data"].get("init_args", {}).get("tokenizer", {}).get("class_path") == "PretrainedTokenizer":
        folder = (tiny_gpt2 if kind == "TextDataModule" else tiny_bert)(Path("pretrained"))
        words += [f"--data.tokenizer.pretrained={folder}"]
    if kind == "LinesDataModule":
        words += [f"--data.path={data['lines']}"]
    if kind == "ParallelTextDataModule" and "train" in content["data"]["init_args"]:
        words += [f"--data.{stage}=[{stage}.de,{stage}.en]" for stage in ("train", "val", "test")]
    if kind in ("ImageFolderDataModule", "ImageNetDataModule", "UnlabelledFolderDataModule"):
        words += [f"--data.root={data['data.root']}", "--data.image_size=64", "--data.num_workers=0"]
    if kind == "SegmentationFolderDataModule":
        words += ["--data.root=scenes", "--data.image_size=64", "--data.num_workers=0"]
    if kind == "CocoSegmentationDataModule":
        words += ["--data.train.annotations=scenes/instances.json", "--data.train.images=scenes/images"]
        words += ["--data.val=null", "--data.image_size=64", "--data.num_workers=0"]
    if kind == "DigitScenesSegmentationDataModule":
        words += ["--data.train_size=60", "--data.val_size=21", "--data.test_size=21"]
    if kind == "CocoDetectionDataModule":
        words += ["--data.train={annotations: coco/a.json, images: coco/images}"]
        words += ["--data.image_size=64", "--data.num_workers=0"]
    if kind == "VocDetectionDataModule":
        words += ["--data.root=voc", "--data.image_size=64", "--data.num_workers=0"]
    words += [f"{name}=0.1" for name in places("val_size", content["data"], "--data")]
    if content["data"].get("init_args", {}).get("batch_size", 0) > 20:
        words += ["--data.batch_size=20"]
    if kind == "GymnasiumDataModule":
        words += short_episodes(content)
    if kind == "SemiSupervisedDataModule":
        words += ["--data.labelled_batch_size=10"]
    if kind == "DigitScenesDataModule":
        words += ["--data.sizes=[60,21,21]"]
    if content["model"]["init_args"]["net"]["class_path"] == "TorchvisionDetector":
        words += ["--model.net.name=fasterrcnn_mobilenet_v3_large_320_fpn"]  # small, for a CPU
    for given in ("weights", "head_classes"):
        words += [f"{name}=null" for name in places(given, content["model"]["init_args"]["net"], "--model.net")]
    if content["model"]["init_args"]["net"].get("init_args", {}).get("freeze_backbone"):
        words += ["--model.net.freeze_backbone=false"]
    return words


def short_episodes(content: dict[str, Any]) -> list[str]:
    """An item of the stream as small as the algorithm takes it, and no long evaluation."""
    given = content["data"]["init_args"]["experience"]
    words = ["--data.num_envs=2", "--data.val_episodes=2", "--data.test_episodes=3", "--data.max_episode_steps=12"]
    if given["class_path"] == "Replay":
        every = given["init_args"].get("train_every", 4)
        words += [f"--data.experience.steps_per_item={every}", "--data.experience.warmup_steps=0"]
        words += ["--data.experience.capacity=1000", "--data.experience.batch_size=4", "--data.experience.updates=2"]
    else:
        words += ["--data.experience.steps=8"]
    if content["model"]["class_path"] == "PPO":
        words += ["--model.minibatches=2", "--model.epochs=1"]
    return words


@pytest.mark.parametrize("config", RUNNABLE)
def test_config_runs(config: str, data: dict[str, str]) -> None:
    made = main(["fit", "--config", config, *overrides(config, data), "--trainer.fast_dev_run=true"])
    assert made.trainer.global_step == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_merges(overlay: str, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those for this machine are run; all others are parsed together with a config."""
    base = ["fit", "--config", "configs/vision/classification_digits.yaml", "--config", overlay]
    if Path(overlay).stem == "gradient_checkpointing":
        main([*base, *TRANSFORMER, "--trainer.fast_dev_run=true", f"--trainer.accelerator={ACCELERATOR}"])
        return
    if Path(overlay).stem in CPU_OVERLAYS:
        main([*base, "--trainer.fast_dev_run=true", f"--trainer.accelerator={ACCELERATOR}"])
        return
    with pytest.raises(SystemExit) as stopped:
        main([*base, "--print_config"])
    assert stopped.value.code == 0
    assert "trainer:" in capsys.readouterr().out


@pytest.mark.parametrize("config", CONFIGS)
def test_config_says_what_it_is_for(config: str) -> None:
    first, second = (ROOT / config).read_text().splitlines()[:2]
    assert first.startswith("# ")
    if config in RUNNABLE:
        assert second.startswith("#   python cli.py fit --config ")
