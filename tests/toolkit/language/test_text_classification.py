"""TextClassification: its loss, what its checkpoint knows, and pretrained encoders."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import toolkit
from cli import main
from tests.pretrained import tiny_bert
from toolkit.errors import UserError
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.language.networks.bag_of_embeddings import BagOfEmbeddings
from toolkit.language.text_classification import TextClassification
from toolkit.types import LabelledTextBatch

QUICK = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.limit_train_batches=3", "--wandb.enabled=false"]  # fmt: skip
DATA = ["--model=TextClassification", "--data=TextClassificationDataModule", "--data.train=train.csv", "--data.batch_size=8",
        "--data.val_size=0.2"]  # fmt: skip
PRETRAINED = [
    *DATA,
    "--data.tokenizer=PretrainedTokenizer",
    "--data.tokenizer.pretrained=bert",
    "--model.net=PretrainedEncoder",
]


@pytest.fixture
def table(workdir: Path) -> Path:
    rows = [f"the {word} dog {n},{word}" for n in range(20) for word in ("good", "bad", "lazy")]
    Path("train.csv").write_text("\n".join(["text,label", *rows]))
    return workdir


def task_of(**options: Any) -> TextClassification:
    vocabulary = CharTokenizer().trained(["abc"], None).vocabulary()
    return TextClassification(BagOfEmbeddings(3, 259, dim=8), 3, vocabulary, **options)


def batch_of(rows: int = 4) -> LabelledTextBatch:
    token, mask = torch.arange(rows * 5).view(rows, 5), torch.ones(rows, 5, dtype=torch.bool)
    return LabelledTextBatch(token, mask, torch.arange(rows) % 3, torch.arange(rows), torch.arange(rows))


def test_losses() -> None:
    task, batch = task_of(label_smoothing=0.2), batch_of()
    logits = task.net(batch.token, batch.mask)
    torch.testing.assert_close(task.step(batch, "val").loss, F.cross_entropy(logits, batch.label))
    trained = task.step(batch, "train")
    torch.testing.assert_close(trained.loss, F.cross_entropy(logits, batch.label, label_smoothing=0.2))
    assert int(trained.weight) == 4
    prediction = task.predict_step(batch, 0)
    torch.testing.assert_close(prediction.probability, logits.softmax(dim=1))
    assert prediction.index.tolist() == [0, 1, 2, 3]


def test_mistakes() -> None:
    with pytest.raises(UserError, match="class_names: need 3, one a class, got 2"):
        task_of(class_names=["a", "b"])
    with pytest.raises(UserError, match="label_smoothing: need"):
        task_of(label_smoothing=1.0)
    task = task_of()
    task.num_classes = 4
    with pytest.raises(UserError, match=r"returned shape \(4, 3\) for 4 texts, the data has 4 classes"):
        task.step(batch_of(), "train")


def test_learning_rates_fall_towards_the_input_and_vectors_do_not_decay() -> None:
    task = task_of(layer_decay=0.5, optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.1, weight_decay=0.3))
    groups = task.configure_optimizers().param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.05, 0.3), (0.1, 0.3), (0.1, 0.0)]
    assert [len(group["params"]) for group in groups] == [1, 1, 1]


def predictions(run: Path) -> list[dict[str, str]]:
    main(["predict", "--ckpt_path", str(run), "--input", "in.txt", "--output", "out.csv", "--top_k", "2"])
    return list(csv.DictReader(Path("out.csv").read_text().splitlines()))


@pytest.mark.parametrize("net", ["BagOfEmbeddings", "SubwordBag", "BidirectionalLSTM", "TextTransformer"])
def test_checkpoint_predicts_raw_text_without_the_training_data(net: str, table: Path) -> None:
    run = main(["fit", *DATA, f"--model.net={net}", "--data.max_length=30", *QUICK]).run_folder
    Path("train.csv").unlink()
    Path("in.txt").write_text("the good dog\n\nnaïve\n" + "x " * 40, encoding="utf-8")
    with pytest.warns(UserWarning, match="predict: 1 of 3 texts are longer than 30 tokens"):
        rows = predictions(run)
    assert [row["path"] for row in rows] == ["in.txt:1", "in.txt:3", "in.txt:4"]
    assert {row["predicted"] for row in rows} <= {"bad", "good", "lazy"}
    task: Any = toolkit.load(run)
    token = torch.from_numpy(task.tokenizer.encode("the good dog").astype("int64"))[None]
    probability, number = task.net(token, torch.ones_like(token).bool()).softmax(dim=1)[0].max(dim=0)
    assert float(rows[0]["probability"]) == pytest.approx(probability.item(), rel=1e-4)
    assert rows[0]["predicted"] == task.class_names[number]


@pytest.mark.parametrize("more", [[], ["--model.net.lora.rank=2"]], ids=["whole", "adapters"])
def test_pretrained_checkpoint_needs_its_folder_no_more(more: list[str], table: Path) -> None:
    tiny_bert(table / "bert")
    made = main(["fit", *PRETRAINED, *more, *QUICK])
    task, run = made.model.eval(), made.run_folder
    assert made.datamodule.max_length == 256
    shutil.rmtree("bert")
    Path("train.csv").unlink()
    Path("in.txt").write_text("The GOOD dog\nbad fox 7")
    rows = predictions(run)
    token = torch.from_numpy(task.tokenizer.framed(task.tokenizer.encode("the good dog")).astype("int64"))[None]
    assert (token[0, 0], token[0, -1]) == (2, 3)
    with torch.no_grad():
        probability = task.net(token, torch.ones_like(token).bool()).softmax(dim=1)[0].max()
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    task.load_state_dict(content["state_dict"])
    assert float(rows[0]["probability"]) == pytest.approx(probability.item(), rel=1e-4)
    assert content["hyper_parameters"]["net"]["init_args"]["architecture"]["model_type"] == "bert"
    assert "model" in content["hyper_parameters"]["vocabulary"]["init_args"]


def test_longer_than_the_pretrained_model_reads(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which the limit that the tokenizer's file brings would have hidden."""
    tiny_bert(table / "bert")
    rows = [f"{'dog ' * 200}{n},{'ab'[n % 2]}" for n in range(40)]
    Path("long.csv").write_text("\n".join(["text,label", *rows]))
    with pytest.raises(SystemExit):
        main(["fit", *PRETRAINED, *QUICK, "--data.max_length=400", "--data.train=long.csv"])
    assert "reads 128 at most" in capsys.readouterr().err


def test_a_head_is_saved_and_restored_with_its_adapters(table: Path) -> None:
    tiny_bert(table / "bert")
    made = main(
        ["fit", *PRETRAINED, "--model.net.lora.rank=2", "--model.optimizer=AdamW", "--model.optimizer.lr=0.1", *QUICK]
    )
    again: Any = toolkit.load(made.run_folder / "checkpoints" / "last.ckpt")
    fresh = main(["fit", *PRETRAINED, "--model.net.lora.rank=2", *QUICK, "--trainer.limit_train_batches=0"]).model.net
    moved = 0
    for (name, restored), trained, before in zip(
        again.net.state_dict().items(), made.model.net.state_dict().values(), fresh.state_dict().values(), strict=True
    ):
        assert torch.equal(restored, trained)
        if "lora_" in name or name.startswith("head."):
            moved += not torch.equal(trained, before)
        else:
            assert torch.equal(trained, before), name  # base weights, bit for bit
    assert moved > 2


def test_a_tokenizer_of_no_pretrained_model(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", *DATA, "--model.net=PretrainedEncoder", *QUICK])
    assert "the data's tokenizer is of no pretrained model" in capsys.readouterr().err
