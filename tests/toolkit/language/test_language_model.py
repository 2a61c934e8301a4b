"""LanguageModel: its loss, its carried state, what it writes, and what its checkpoint knows."""

import csv
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.plugins import Precision

import toolkit
from cli import main
from datamodules.sampler import BatchIndex
from datamodules.text import TextDataModule
from datamodules.token_blocks import EvaluationBlocks
from tests import forked
from tests.test_two_ranks import metrics
from tests.test_two_ranks import run as fit
from toolkit.errors import UserError
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.language.language_model import LanguageModel
from toolkit.language.networks.gpt import GPT
from toolkit.language.networks.language_network import LanguageNetwork
from toolkit.language.networks.rnn import RNN
from toolkit.language.text_generator import Sampling
from toolkit.optim.muon_adamw import MuonAdamW
from toolkit.types import IGNORE_LABEL, TextBatch

TEXT = "the quick brown fox jumps over the lazy dog. "
QUICK = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.limit_train_batches=3", "--wandb.enabled=false"]  # fmt: skip


def task_of(net: str = "gpt", end: str | None = None) -> LanguageModel:
    tokenizer = CharTokenizer().trained([TEXT], end)
    V = tokenizer.size
    nets: dict[str, LanguageNetwork] = {"gpt": GPT(V, 16, dim=16, depth=1, heads=2), "lstm": RNN(V, hidden=16)}
    return LanguageModel(nets[net], vocabulary=tokenizer.vocabulary())


def batch_of(task: LanguageModel, text: str, rows: int = 1, continues: bool = False) -> TextBatch:
    token = torch.from_numpy(task.tokenizer.encode(text).astype("int64")).view(rows, -1)
    return TextBatch(token[:, :-1], token[:, 1:], torch.arange(rows), torch.arange(rows), continues)


def test_loss_is_the_mean_over_the_tokens_that_count() -> None:
    task = task_of()
    batch = batch_of(task, TEXT[:32], rows=2)
    target = batch.target.clone()
    target[0, 3:] = IGNORE_LABEL
    logits, _ = task.net(batch.token)
    losses = -logits.log_softmax(dim=2).gather(2, batch.target[..., None])[..., 0]
    counts = target != IGNORE_LABEL
    output = task.step(batch._replace(target=target), "train")
    torch.testing.assert_close(output.loss, losses[counts].mean())
    assert int(output.weight) == int(counts.sum()) == 18
    score = task.predict_step(batch._replace(target=target), 0)
    torch.testing.assert_close(score.nats, (losses * counts).sum(dim=1))
    assert score.tokens.tolist() == [3, 15]


def test_nothing_that_counts_gives_no_nan() -> None:
    task = task_of()
    batch = batch_of(task, TEXT[:16])
    output = task.step(batch._replace(target=torch.full_like(batch.target, IGNORE_LABEL)), "train")
    assert float(output.loss.detach()) == 0


@torch.no_grad()
def test_perplexity_and_bits_per_byte_of_many_batches() -> None:
    task = task_of()
    texts = ["naïve fox", "dog and dog"]
    nats, tokens, size = 0.0, 0, 0
    for text in texts:
        output = task.step(batch_of(task, text), "val")
        nats += output.prediction.nats.sum().item()
        tokens += len(task.tokenizer.encode(text)) - 1
        size += len(text.encode()) - 1
    scores = task.metrics("val").compute()
    assert float(scores["val/perplexity"]) == pytest.approx(math.exp(nats / tokens))
    assert float(scores["val/bits_per_byte"]) == pytest.approx(nats / size / math.log(2))
    assert float(task.means("val").compute()["loss"]) == pytest.approx(nats / tokens)


def test_state_across_batches_equals_one_long_sequence() -> None:
    """In evaluation as in training; a batch that does not continue begins anew, and stages do not mix."""
    for stage in ("train", "val"):
        task = task_of("lstm").double()
        whole = batch_of(task, TEXT[:41])
        parts = [
            TextBatch(whole.token[:, i : i + 10], whole.target[:, i : i + 10], whole.index, whole.key, continues=i > 0)
            for i in range(0, 40, 10)
        ]
        one = task.step(whole, "test").loss
        losses = []
        for part in parts:
            losses.append(task.step(part, stage).loss)
            task.step(batch_of(task, TEXT[5:20]), "test")
        torch.testing.assert_close(torch.stack(losses).mean(), one, rtol=0, atol=1e-10)
        cold = task.step(parts[1]._replace(continues=False), stage).loss
        assert (cold - losses[1]).abs().item() > 1e-6


def test_gradients_stop_at_the_border_of_a_batch() -> None:
    task = task_of("lstm")
    whole = batch_of(task, TEXT[:21])
    task.step(whole, "train")
    state = task._states["train"]
    assert state is not None
    assert not any(part.requires_grad for part in state)
    loss = task.step(whole._replace(continues=True), "train").loss
    loss.backward()  # a graph that went back would have been freed


def test_a_resume_with_other_batches_begins_from_an_empty_state_and_says_so_once() -> None:
    task = task_of("lstm")
    task.step(batch_of(task, TEXT[:20], rows=2), "train")
    other = batch_of(task, TEXT[:40], rows=4, continues=True)
    with pytest.warns(UserWarning, match="state has 2 rows a device, and a batch 4; .* from an empty state"):
        loss = task.step(other, "train").loss
    torch.testing.assert_close(loss, task.step(other._replace(continues=False), "val").loss)
    task.step(other, "train")  # a warning would be an error


def test_a_state_that_the_devices_cannot_share_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of("lstm")
    checkpoint = {"state_dict": task.state_dict(), "carried_state": [torch.zeros(4, 1, 16)] * 2}
    places = {"global_rank": 2, "world_size": 3, "precision_plugin": Precision()}
    task._trainer = SimpleNamespace(state=SimpleNamespace(fn="fit"), **places)  # type: ignore[assignment]
    with pytest.warns(UserWarning, match="1 rows more than 3 devices can share evenly"):
        task.on_load_checkpoint(checkpoint)
    assert "train" not in task._states


def test_a_bad_state_does_not_outlive_its_step() -> None:
    task = task_of("lstm")
    with torch.no_grad():
        task.net.embedding.weight[0] = torch.nan
    batch = batch_of(task, TEXT[:20])
    task.step(batch._replace(token=torch.zeros_like(batch.token)), "train")
    state = task._states["train"]
    assert state is not None
    assert all(part.isfinite().all() for part in state)


def test_vectors_do_not_decay() -> None:
    task = LanguageModel(
        GPT(task_of().tokenizer.size, 8, 16, 1, 2, bias=True),
        task_of().tokenizer.vocabulary(),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5),
    )
    optimizer = task.configure_optimizers()
    assert isinstance(optimizer, torch.optim.AdamW)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.5 if parameter.ndim >= 2 else 0.0)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(task.parameters()))


def test_muon_takes_the_matrices_between_tables_and_logits() -> None:
    tokenizer = task_of().tokenizer
    net = GPT(tokenizer.size, 8, 16, 1, 2, tied=False)
    net.blocks[0].mlp.fc = torch.nn.Linear(16, tokenizer.size)  # as many rows as the tables have
    task = LanguageModel(net, tokenizer.vocabulary(), optimizer=MuonAdamW)
    optimizer = task.configure_optimizers()
    assert isinstance(optimizer, MuonAdamW)
    hidden = [w for group in optimizer.param_groups if group.get("hidden") for w in group["params"]]
    assert {id(w) for w in hidden} == {id(w) for w in net.blocks.parameters() if w.ndim == 2}


# Writing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", ["gpt", "lstm"])
def test_writing_reads_all_that_was_written(net: str) -> None:
    """Greedy decoding with the cache equals the full forward at each step."""
    task = task_of(net).eval()
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.mul_(8)
    token = task.tokenizer.encode("the q").tolist()
    for _ in range(11):  # what the GPT can look back on
        logits, _ = task.net(torch.tensor([token]))
        token.append(int(logits[0, -1].argmax()))
    written = task.write("the q", tokens=11, sampling=Sampling(temperature=0))
    assert written == [task.tokenizer.decode(token[5:])]


def test_writing_goes_on_beyond_the_context_and_is_keyed() -> None:
    task = task_of().train()
    before = torch.random.get_rng_state()
    three, again, one = (task.write("fox", tokens=60, count=count, seed=3) for count in (3, 3, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert task.training
    assert three == again
    assert three[0] == one[0]
    assert len(set(three)) == 3
    assert task.write("fox", tokens=60, seed=4) != one
    assert ["".join(task.stream("fox", 60, number, seed=3)) for number in range(3)] == three


def test_writing_ends_with_the_document() -> None:
    task = task_of(end="\n")
    end = task.tokenizer.end_token
    assert task.prompt("") == [end]
    with torch.no_grad():
        task.net.embedding.weight[end] = 0
    texts = task.write("", tokens=200, count=5)
    assert any(len(text) < 150 for text in texts)
    assert ["".join(task.stream("", 200, number)) for number in range(5)] == texts


def test_a_prompt_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(UserError, match=r"'\\udce9' at position 3 is half a character"):
        task_of().prompt("caf\udce9")  # as Python reads a terminal's Latin-1


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.1, 0.2, 0.3, 0.4]),
        (Sampling(temperature=0), [0, 0, 0, 1]),
        (Sampling(temperature=0.5), [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
        (Sampling(top_k=2), [0, 0, 3 / 7, 4 / 7]),
        (Sampling(top_p=0.5), [0, 0, 3 / 7, 4 / 7]),
        (Sampling(top_p=0.4), [0, 0, 0, 1]),
        (Sampling(top_k=3, top_p=0.99), [0, 2 / 9, 3 / 9, 4 / 9]),
    ],
)
def test_probability_of_the_next_token(sampling: Sampling, expected: list[float]) -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    assert sampling.probability(logits)[0].tolist() == pytest.approx(expected)
    uniform = (torch.arange(2000) + 0.5) / 2000
    drawn = sampling.draw(logits.expand(2000, -1), uniform).bincount(minlength=4) / 2000
    assert drawn.tolist() == pytest.approx(expected, abs=0.001)


def test_sampling_mistakes() -> None:
    for options, message in [
        ({"temperature": -1.0}, "temperature: need a number >= 0"),
        ({"top_k": 0}, "top_k: need at least 1"),
        ({"top_p": 0.0}, "0 < top_p <= 1"),
    ]:
        with pytest.raises(UserError, match=message):
            Sampling(**options)


# Runs -----------------------------------------------------------------------------------------------------------------

STREAMS = [
    *("--model=LanguageModel", "--model.net=RNN", "--model.net.hidden=12", "--model.net.layers=2"),
    *("--data=TextDataModule", "--data.path=text.txt", "--data.streams=true", "--data.block_size=10"),
    *("--data.batch_size=4", "--data.eval_batch_size=3"),
]


@pytest.fixture
def text(workdir: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    words = TEXT.split()
    drawn = torch.randint(len(words), (1500,), generator=generator).tolist()
    (workdir / "text.txt").write_text(" ".join(words[n] for n in drawn))
    return workdir / "text.txt"


def test_streams_on_two_ranks_and_across_a_resume_equal_one_run(text: Path, tmp_path: Path) -> None:
    """Each rank carries the state of its rows; a checkpoint holds all of them, here one in the middle of an epoch."""
    words = [f"--data.path={text}" if word.startswith("--data.path") else word for word in STREAMS]
    words += ["--trainer.log_every_n_steps=3", "--data.eval_batch_size=4", "--checkpoint.keep_last=1"]
    one = fit(words, tmp_path / "one")
    two = fit([*words, "--trainer.devices=2", "--trainer.max_steps=31"], tmp_path / "two")
    done = forked.run(["resume", str(two), "--trainer.max_steps=-1"], ranks=2)
    assert done.returncode == 0, done.stderr
    contents = [torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (one, two)]
    a, b = contents
    assert a["global_step"] == b["global_step"] > 100
    for name, weight in a["state_dict"].items():
        torch.testing.assert_close(weight, b["state_dict"][name], rtol=0, atol=1e-12, msg=name)
    for x, y in zip(a["carried_state"], b["carried_state"], strict=True):
        assert x.shape == (4, 2, 12)
        torch.testing.assert_close(x, y, rtol=0, atol=1e-12)
    rows = [[row for row in metrics(folder) if "test/loss" not in row] for folder in (one, two)]
    for x, y in zip(*rows, strict=True):  # one of both was tested twice
        assert x == pytest.approx(y, rel=1e-6, abs=1e-6)


def test_evaluation_is_that_of_the_whole_split(text: Path) -> None:
    """By the Trainer, against one pass over each stream."""
    made = main(["fit", *STREAMS, *QUICK])
    data, task = made.datamodule, made.model.eval()
    tokens = torch.from_numpy(data._corpus.of("val").astype("int64"))
    length = -(-(len(tokens) - 1) // 3)
    nats = 0.0
    with torch.no_grad():
        for part in range(3):
            stream = tokens[part * length : (part + 1) * length + 1]
            nats += float(F.cross_entropy(task.net(stream[None, :-1])[0][0], stream[1:], reduction="sum"))
    assert float(made.trainer.callback_metrics["val/loss"]) == pytest.approx(nats / (len(tokens) - 1), rel=1e-5)


def test_overlapping_blocks_are_read_with_what_is_before_them(text: Path) -> None:
    data = TextDataModule(str(text), block_size=16)
    tokens = data._corpus.of("val")[:41]
    task = LanguageModel(GPT(data.vocabulary_size, 16, 32, 2, 2), data.vocabulary).double().eval()
    blocks = EvaluationBlocks(tokens, 16, overlap=12)
    score = task.predict_step(blocks[BatchIndex(0, torch.arange(len(blocks)))], 0)
    losses = []
    for target in range(1, 41):
        first = max(0, -(-(target - 16) // 4) * 4)  # blocks begin at every fourth token
        seen = torch.from_numpy(tokens[first : target + 1].astype("int64"))
        losses.append(F.cross_entropy(task.net(seen[None, :-1])[0][0, -1:], seen[-1:]))
    torch.testing.assert_close(score.nats.sum(), torch.stack(losses).sum().float())


def test_checkpoint_reads_raw_text_without_the_training_data(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model=LanguageModel", "--model.net=GPT", "--model.net.dim=16", "--data=TextDataModule",
             "--data.path=text.txt", "--data.block_size=16", "--data.batch_size=8"]  # fmt: skip
    run = main(["fit", *words, *QUICK]).run_folder
    text.unlink()
    Path("in.txt").write_text("the fox\n\nthe lazy dog naïve\n" + "x" * 40 + "\n", encoding="utf-8")
    with pytest.warns(UserWarning, match="2 of 3 lines are longer than 16 tokens"):
        main(["predict", "--ckpt_path", str(run), "--input", "in.txt", "--output", "out.csv"])
    rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == ["in.txt:1", "in.txt:3", "in.txt:4"]
    assert [int(row["tokens"]) for row in rows] == [7, 16, 16]
    task: Any = toolkit.load(run)
    logits, _ = task.net(torch.tensor([task.prompt("")[:1] + task.tokenizer.encode("the fo").tolist()]))
    target = torch.from_numpy(task.tokenizer.encode("the fox").astype("int64"))
    nats = F.cross_entropy(logits[0], target, reduction="sum")
    assert float(rows[0]["nats"]) == pytest.approx(nats.item(), rel=1e-4)
    for content, message in [(b"\n", "has text in it"), (b"\xff", "no UTF-8 text: byte 0")]:
        Path("bad.txt").write_bytes(content)
        with pytest.raises(SystemExit):
            main(["predict", "--ckpt_path", str(run), "--input", "bad.txt"])
        assert message in capsys.readouterr().err


def test_another_vocabulary_is_refused() -> None:
    tokenizer = CharTokenizer().trained([TEXT], None)
    task = LanguageModel(RNN(7), tokenizer.vocabulary())
    with pytest.raises(UserError, match="it returned 7 logits a token, the vocabulary has"):
        task.step(TextBatch(*(torch.zeros(1, 3, dtype=torch.long),) * 2, torch.zeros(1), torch.zeros(1)), "train")
