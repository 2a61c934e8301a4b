"""Pretrained tokenizers and causal models, with small random ones in the layout of published ones."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import toolkit
from cli import main
from tests.pretrained import tiny_bert, tiny_gpt2
from toolkit.errors import UserError
from toolkit.language.language_model import LanguageModel
from toolkit.language.networks.pretrained_causal import PretrainedCausal
from toolkit.language.pretrained_tokenizer import PretrainedTokenizer
from toolkit.language.text_generator import Sampling
from toolkit.language.tokenizer import restore
from toolkit.nn.lora import LoRA

QUICK = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.limit_train_batches=3", "--wandb.enabled=false"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pretrained")
    tiny_bert(root / "bert")
    tiny_gpt2(root / "gpt2")
    return root


def test_word_pieces_stand_between_marks_that_a_cut_leaves(folder: Path) -> None:
    tokenizer = PretrainedTokenizer(str(folder / "bert")).trained(["never looked at"], None)
    tokens = tokenizer.encode("The quick fox" + " dog" * 20)
    assert len(tokens) == 23  # whatever limit and padding the file brings
    assert tokenizer.decode(tokens.tolist()).startswith("the quick fox dog")
    framed = tokenizer.framed(tokens, 6)
    assert framed.tolist() == [2, *tokens[:4], 3]
    assert tokenizer.framed(tokens).tolist() == [2, *tokens, 3]
    again = restore(tokenizer.vocabulary())
    np.testing.assert_array_equal(again.encode("a lazy dog!"), tokenizer.encode("a lazy dog!"))
    assert again.size == tokenizer.size
    assert tokenizer.end_token is None


def test_bytes_are_spelled_without_loss(folder: Path) -> None:
    text = "naïve 漢字 \U0001f600\n"
    for end in (None, ""):
        tokenizer = PretrainedTokenizer(str(folder / "gpt2")).trained([], end)
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens.tolist()) == text
        assert sum(tokenizer.token_bytes()[token] for token in tokens) == len(text.encode())
        assert tokenizer.size == 257
        assert tokenizer.end_token == (None if end is None else 256)
    assert tokenizer.token_bytes()[256] == 0


def test_single_bytes_of_sentencepiece_are_spelled_as_what_they_stand_for(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers

    pieces = ["<unk>", *(f"<0x{value:02X}>" for value in range(256)), "\u2581", "a", "#", "##", "\u2581a"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [("#", "#"), ("\u2581", "a")]
    fast = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    fast.normalizer = normalizers.Replace(" ", "\u2581")
    fast.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    fast.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    tokenizer = PretrainedTokenizer(str(tmp_path))
    text = "a a\n##é"
    tokens = tokenizer.encode(text).tolist()
    assert len(tokens) == 6
    assert b"".join(tokenizer.spelling[token] for token in tokens).decode() == text == tokenizer.decode(tokens)


def test_tokenizers_that_cannot_be_had(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="knows no end of a text"):
        PretrainedTokenizer(str(folder / "bert")).trained([], "")
    shutil.copytree(folder / "bert", tmp_path / "damaged")
    (tmp_path / "damaged" / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not readable"):
        PretrainedTokenizer(str(tmp_path / "damaged"))


@pytest.mark.parametrize("lora", [None, LoRA(2, targets=["c_attn"])], ids=["whole", "adapters"])
def test_a_cache_gives_what_the_whole_text_gives(lora: LoRA | None, folder: Path) -> None:
    net = PretrainedCausal(257, str(folder / "gpt2"), lora=lora).double().eval()
    token = torch.randint(0, 256, (2, 9))
    whole, none = net(token)
    assert none is None
    assert whole.shape == (2, 9, 257)
    state, parts = net.empty_state(2), []
    for piece in token.split([4, 1, 1, 3], dim=1):
        logits, state = net(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    later = token.clone()
    later[:, 5:] = 0
    torch.testing.assert_close(net(later)[0][:, :5], whole[:, :5], rtol=0, atol=0)  # causality
    if lora is not None:
        assert {name.split(".")[-3] for name, p in net.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}


def test_it_is_the_published_model(folder: Path) -> None:
    import transformers

    published = transformers.GPT2LMHeadModel.from_pretrained(folder / "gpt2").eval()
    token = torch.randint(0, 256, (2, 9))
    net = PretrainedCausal(257, str(folder / "gpt2")).eval()
    torch.testing.assert_close(net(token)[0], published(input_ids=token).logits[..., :257])
    assert net.block_size == 256
    task = LanguageModel(net, PretrainedTokenizer(str(folder / "gpt2")).vocabulary())
    greedy = task.write("abc", 5, sampling=Sampling(temperature=0))
    ids = published.generate(torch.tensor([[64, 65, 66]]), max_new_tokens=5, do_sample=False, pad_token_id=256)
    assert greedy == [task.tokenizer.decode(ids[0, 3:].tolist())]


def test_a_model_that_was_published_in_half_precision_is_trained_in_float32(tmp_path: Path) -> None:
    net = PretrainedCausal(257, str(tiny_gpt2(tmp_path / "half", "bfloat16")))
    assert net.architecture["dtype"] == "bfloat16"
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    net(torch.zeros(1, 3, dtype=torch.long))[0].sum().backward()


def test_muon_takes_its_hidden_matrices_and_no_table(folder: Path) -> None:
    """Whose vocabulary of 260 was rounded up, and is tied; the layers are the package's own kind."""
    net = PretrainedCausal(257, str(folder / "gpt2"))
    task = LanguageModel(net, PretrainedTokenizer(str(folder / "gpt2")).vocabulary())
    names = {id(parameter): name for name, parameter in net.model.named_parameters()}
    hidden, table, _ = ([names[id(parameter)] for parameter in group["params"]] for group in task.parameter_groups())
    assert {name.rpartition(".")[0].split(".", 3)[-1] for name in hidden} == {
        "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"
    }  # fmt: skip
    assert table == ["transformer.wte.weight", "transformer.wpe.weight"]


def test_fine_tuned_with_adapters_and_sampled_without_the_folder(folder: Path, workdir: Path, capsys: Any) -> None:
    shutil.copytree(folder / "gpt2", "gpt2")
    (workdir / "a.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    words = ["--model=LanguageModel", "--model.net=PretrainedCausal", "--model.net.lora.rank=2", "--data=TextDataModule",
             "--data.path=a.txt", "--data.block_size=16", "--data.batch_size=8", "--data.tokenizer=PretrainedTokenizer",
             "--data.tokenizer.pretrained=gpt2"]  # fmt: skip
    made = main(["fit", *words, *QUICK])
    run = made.run_folder
    shutil.rmtree("gpt2")
    (workdir / "a.txt").unlink()
    capsys.readouterr()
    main(["sample", str(run), "--prompt", "the", "--tokens", "8", "--seed", "1"])
    written = capsys.readouterr().out
    task: Any = toolkit.load(run)
    assert "".join(task.stream("the", 8, seed=1)).strip() in written
    for (name, loaded), trained in zip(
        task.net.state_dict().items(), made.model.net.state_dict().values(), strict=True
    ):
        assert loaded.shape == trained.shape, name


def test_another_vocabulary_and_too_long_a_text_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="has 260 tokens, the data's tokenizer 300"):
        PretrainedCausal(300, str(folder / "gpt2"))
    with pytest.raises(UserError, match="257 tokens, but it reads 256 at most"):
        PretrainedCausal(257, str(folder / "gpt2"))(torch.zeros(1, 257, dtype=torch.long))
