"""Every command in README and docs is run, in the order of the page, on little data; what is not ours is named here.

A fit of a config as it is, whose run no later command of the page needs, is left to `tests/test_configs.py`.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli import main
from tests.conftest import ROOT
from tests.datamodules.detection_data import coco, voc
from tests.forked import quick_starts  # noqa: F401  # a fixture
from tests.pretrained import tiny_bert, tiny_gpt2
from tests.test_configs import RUNNABLE

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.relative_to(ROOT / 'docs')}" for p in (ROOT / "docs").rglob("*.md"))]  # fmt: skip

ELSEWHERE = {
    # What .ci/run does, or what needs a person.
    "python -m pip install -e .",
    'python -m pip install -e ".[test]"',
    'python -m pip install -e ".[dev]"',
    'python -m pip install -e ".[rl]"',
    'python -m pip install -e ".[transfer]"',
    'python -m pip install -e ".[detection]"',
    "python -m pytest",
    "python -m pytest -m slow",
    "pre-commit install",
    "bash .ci/run",
    "mkdocs serve",
    "git clone",
    "cd fulgurite",
    "uv venv",
    "uv pip install",
    "uv run",
    "python benchmarks/",
    "wandb sync",
    "wandb login",
    "torchrun",
}
QUICK = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1",
    "--trainer.limit_test_batches=1",
    "--trainer.accelerator=cpu",
    "--wandb.enabled=false",
]


def commands(page: str) -> list[str]:
    blocks = re.findall(r"```(?:bash|console|sh)\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [part.strip() for line in lines for part in line.split("&&") if part.strip() and not line.startswith("#")]


def small_data(folder: Path) -> None:
    """What the pages call path/to/...: two classes of small pictures, an .npz, texts, and pictures with boxes."""
    draw = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(20):
            pixels = draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{i}.png")
    words = [["the", "quick", "brown", "fox"][n] for n in draw.integers(0, 4, 5000)]
    (folder / "text.txt").write_text("\n".join(" ".join(words[n : n + 6]) for n in range(0, 5000, 6)))
    (folder / "names.txt").write_text("\n".join(f"{word}{n}" for n, word in enumerate(words[:600])))
    for name, numbers in {"train": range(300), "val": range(300, 330), "test": range(330, 360)}.items():
        pairs = [(f"{words[i]} {i} zwei", f"two {words[i]} {i}") for i in numbers]
        for language, lines in zip(("de", "en"), zip(*pairs, strict=True), strict=True):
            (folder / f"{name}.{language}").write_text("\n".join(lines))
        (folder / f"{name}.tsv").write_text("\n".join("\t".join(pair) for pair in pairs))
    for split in ("train", "dev", "test"):
        rows = [f"the {word} dog {n} of {split}\t{n % 2}" for n, word in enumerate(words[:200])]
        (folder / f"{split}.tsv").write_text("\n".join(rows))
        table = [f"the {word} dog {n} of {split},{n % 3}" for n, word in enumerate(words[:200])]
        (folder / f"{split}.csv").write_text("\n".join(["text,category", *table]))
        (folder / f"{split}.seq.in").write_text("\n".join(row.rpartition(",")[0] for row in table))
        (folder / f"{split}.label").write_text("\n".join(str(n % 3) for n in range(200)))
    (folder / "texts").mkdir()
    for n in range(40):
        (folder / "texts" / f"{n}.txt").write_text(" ".join(words[100 * n : 100 * n + 100]))
    for name in ("images", "masks"):
        (folder / "scenes" / name).mkdir(parents=True)
        for i in range(20):
            pixels = draw.integers(0, *((256, (40, 48, 3)) if name == "images" else (3, (40, 48))), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "scenes" / name / f"{i}.png")
    images = draw.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    labels = np.arange(60) % 3
    np.savez(folder / "data.npz", **{f"{split}_{kind}": array for split in ("train", "val", "test") for kind, array in
             (("images", images), ("labels", labels))})  # fmt: skip
    for name in ("train.json", "val.json"):
        coco(folder / "coco", count=24, name=name)
    objects = {f"{n:06d}": [("dog" if n % 2 else "cat", 0, (3, 4, 25, 18))] for n in range(24)}
    names = list(objects)
    voc(folder / "VOC2007", {"train": names[:12], "val": names[12:18], "test": names[18:]}, **objects)


@pytest.mark.usefixtures("quick_starts")
@pytest.mark.parametrize("page", [page for page in PAGES if (ROOT / page).exists() and commands(page)])
def test_commands_run(page: str, workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_data(workdir / "path" / "to")
    if "path/to/minilm" in (ROOT / page).read_text():
        tiny_bert(workdir / "path" / "to" / "minilm")
    if "path/to/gpt2" in (ROOT / page).read_text():
        tiny_gpt2(workdir / "path" / "to" / "gpt2")
    for number, command in enumerate(commands(page)):
        if plain_config(command) and not needs_run(commands(page)[number + 1 :]):
            assert plain_config(command) in RUNNABLE, f"{page}: nobody runs {command!r}"
            continue
        if not command.startswith("python cli.py"):
            assert command.startswith(tuple(ELSEWHERE)), f"{page}: nobody runs {command!r}"
            continue
        words = shlex.split(command, comments=True)[2:]
        words = [str(newest(workdir)) if is_a_run(word) else word for word in words]
        if words[0] == "seeds":
            words += ["--n=1"]
        if words[0] in ("fit", "seeds", "resume"):
            words += QUICK
        main(words)
        assert "error" not in capsys.readouterr().err


def test_what_is_left_to_the_configs_suite() -> None:
    assert plain_config("python cli.py fit --config configs/a/b.yaml  # why") == "configs/a/b.yaml"
    assert plain_config("python cli.py fit --config configs/a/b.yaml --data.root path/to/images") is None
    assert plain_config("python cli.py test --config configs/a/b.yaml") is None
    assert needs_run(["python cli.py list", "python cli.py play --config configs/a/b.yaml"])
    assert needs_run(["python cli.py fit --config configs/a/b.yaml --into RUN_FOLDER"])
    assert not needs_run(["python cli.py fit --config configs/a/b.yaml", "wandb login", "python cli.py doctor"])


def plain_config(command: str) -> str | None:
    """The config of a fit without any other word."""
    found = re.fullmatch(r"python cli\.py fit --config (\S+\.yaml)\s*(#.*)?", command)
    return found[1] if found else None


def needs_run(later: list[str]) -> bool:
    """Whether one of these commands looks for what an earlier one has left."""
    ours = [shlex.split(command, comments=True)[2:] for command in later if command.startswith("python cli.py")]
    by_verb = {words[0] for words in ours} - {"fit", "seeds", "list", "submit", "doctor"}
    return bool(by_verb) or any(is_a_run(word) for words in ours for word in words)


def is_a_run(word: str) -> bool:
    return word.startswith("runs/") or word.isupper()


def test_the_page_on_tasks_shows_the_example() -> None:
    assert '\n--8<-- "examples/parity.py"\n' in (ROOT / "docs" / "new_task.md").read_text()


def newest(folder: Path) -> Path:
    return max((folder / "runs").glob("*/*/"), key=lambda run: run.stat().st_mtime)
