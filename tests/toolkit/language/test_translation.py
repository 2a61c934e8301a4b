"""The task: what it trains on and reports, and that a checkpoint translates raw text."""

import csv
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import toolkit
from cli import main
from datamodules.parallel_text import ParallelTextDataModule
from datamodules.sampler import BatchIndex
from tests.conformance import ATTENTIVE_TRANSLATOR
from toolkit.errors import UserError
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.language.networks.translation_transformer import TranslationTransformer
from toolkit.language.translation import Translation
from toolkit.types import IGNORE_LABEL, TranslationBatch


@pytest.fixture(scope="module")
def data() -> ParallelTextDataModule:
    return ParallelTextDataModule(tokenizer=CharTokenizer())


def build(data: ParallelTextDataModule, **options: object) -> Translation:
    V = data.target_vocabulary_size
    net = TranslationTransformer(V, V, dim=8, heads=2, encoder_depth=1, decoder_depth=1)
    return Translation(net, data.source_vocabulary, data.target_vocabulary, **options)  # type: ignore[arg-type]


def batch_of(data: ParallelTextDataModule, count: int = 5) -> TranslationBatch:
    return data.dataset("val")[BatchIndex(0, torch.arange(count))]


def test_smoothed_in_training_and_plain_in_evaluation(data: ParallelTextDataModule) -> None:
    task, batch = build(data, label_smoothing=0.2).eval(), batch_of(data)
    V, T = data.target_vocabulary_size, batch.token.shape[1]
    every = torch.ones(5, T, dtype=torch.bool)
    logits, label = task.net(batch.source, batch.source_length, batch.token, every), batch.label.flatten()
    trained, evaluated = task.step(batch, "train"), task.step(batch, "val")
    assert logits.shape == (5 * T, V)
    torch.testing.assert_close(trained.loss, F.cross_entropy(logits, label, label_smoothing=0.2))
    torch.testing.assert_close(evaluated.loss, F.cross_entropy(logits, label))
    assert trained.weight == (label != IGNORE_LABEL).sum()
    means = task.means("train").compute()
    torch.testing.assert_close(means["nats"], evaluated.loss.detach())
    torch.testing.assert_close(means["loss"], trained.loss.detach())
    assert list(task.means("val").compute()) == ["loss"]


def test_vectors_do_not_decay(data: ParallelTextDataModule) -> None:
    task = build(data, optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5))
    optimizer = task.configure_optimizers()
    assert isinstance(optimizer, torch.optim.AdamW)
    decayed = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decayed == {id(p): 0.5 if p.ndim >= 2 else 0.0 for p in task.parameters()}


def test_scores_are_of_the_greedy_translations_and_the_references(data: ParallelTextDataModule) -> None:
    task, batch = build(data).eval(), batch_of(data)
    found = task.step(batch, "val").prediction
    metric = task.metrics("val")["bleu"]
    assert metric._texts() == (task.texts_of(found.token), [target for _, target in target_pairs(data, batch)])
    assert torch.equal(found.token, task.translate(batch, beam=1).token)
    tested = task.step(batch, "test").prediction
    assert torch.equal(tested.token, task.predict_step(batch, 0).token)


def target_pairs(data: ParallelTextDataModule, batch: TranslationBatch) -> list[tuple[str, str]]:
    return [data.pairs["val"][index] for index in batch.index.tolist()]


def test_padding_changes_no_loss_and_no_translation(data: ParallelTextDataModule) -> None:
    task, batch = build(data).eval(), batch_of(data)
    more = batch._replace(
        source=F.pad(batch.source, (0, 3), value=2), token=F.pad(batch.token, (0, 3)),
        label=F.pad(batch.label, (0, 3), value=IGNORE_LABEL),
    )  # fmt: skip
    a, b = task.step(batch, "val"), task.step(more, "val")
    torch.testing.assert_close(a.loss, b.loss)
    assert torch.equal(a.prediction.token, b.prediction.token)


def test_attention_of_a_translation(data: ParallelTextDataModule) -> None:
    task, batch = build(data).eval(), batch_of(data)
    source = batch.source[0, : int(batch.source_length[0])]
    weights = task.attention(source, torch.tensor([1, 2, 3]))
    assert weights.shape == (4, len(source))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))


def test_a_checkpoint_translates_raw_text_without_the_training_data(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{word} {n}\t{n} {word[::-1]}" for n in range(20) for word in ("eins", "zwei", "drei")]
    Path("train.tsv").write_text("\n".join(lines))
    words = [*ATTENTIVE_TRANSLATOR, "--data.train=train.tsv", "--data.max_length=9", "--data.max_tokens=72",
             "--data.test_size=0.1", "--data.val_size=0.1", "--test_after_fit=true"]  # fmt: skip
    run = main(
        ["fit", *words, "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--wandb.enabled=false"]
    ).run_folder
    told = capsys.readouterr().out
    assert "--input FILE.txt" in told
    assert "global batch 72 tokens = 1 rank x 72 per rank" in told
    Path("train.tsv").unlink()
    Path("new.txt").write_text("zwei 7\n\nvier 5\n")
    main(["predict", "--ckpt_path", str(run), "--input", "new.txt", "--output", "out.csv"])
    rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == ["new.txt:1", "new.txt:3"]
    task = toolkit.load(run)
    assert task.max_length == 9
    assert all(float(row["score"]) < 0 and row["error"] == "" for row in rows)
    Path("new.txt").write_text("a line that is much too long\n")
    with pytest.warns(UserWarning, match="1 of 1 lines are longer than 9 tokens"):
        main(["predict", "--ckpt_path", str(run), "--input", "new.txt", "--output", "out.csv"])


def test_sharded_weights_are_refused(data: ParallelTextDataModule) -> None:
    task = build(data)
    task.configure_model()
    task._device_mesh = object()
    with pytest.raises(UserError, match="write strategy: ddp"):
        task.configure_model()


def test_mistakes(data: ParallelTextDataModule) -> None:
    with pytest.raises(UserError, match=r"got 1\.0 and 4"):
        build(data, label_smoothing=1.0)
    with pytest.raises(UserError, match=r"got 0\.1 and 0"):
        build(data, beam=0)
    wrong = Translation(
        TranslationTransformer(400, 400, dim=8, heads=2), data.source_vocabulary, data.target_vocabulary
    )
    with pytest.raises(UserError, match="returned 400 logits a token"):
        wrong.step(batch_of(data), "train")
