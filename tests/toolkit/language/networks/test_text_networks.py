"""Networks that classify texts: padding changes nothing, tokens count, gradients flow."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.pretrained import tiny_bert
from toolkit.errors import UserError
from toolkit.language.char_tokenizer import CharTokenizer
from toolkit.language.networks.bag_of_embeddings import BagOfEmbeddings
from toolkit.language.networks.bidirectional_lstm import BidirectionalLSTM
from toolkit.language.networks.pretrained_encoder import PretrainedEncoder
from toolkit.language.networks.subword_bag import SubwordBag
from toolkit.language.networks.text_network import TextNetwork
from toolkit.language.networks.text_transformer import TextTransformer
from toolkit.language.pooling import Pooling
from toolkit.nn.backbone import stage_parameters, stages_of
from toolkit.nn.lora import LoRA

V, K = 40, 3


def subwords() -> SubwordBag:
    """Over letters and some spaces and signs, as if trained."""
    net = SubwordBag(K, CharTokenizer("\t !,0123456789ABCDEFGHIJKLMNOPabcdefghij", fallback=False).vocabulary(), 8)
    for table in (net.words, net.ngrams):
        nn.init.normal_(table.weight)
    return net


NETS: dict[str, Callable[[], TextNetwork]] = {
    **{f"bag-{kind}": lambda kind=kind: BagOfEmbeddings(K, V, 8, pooling=kind) for kind in ("mean", "max", "attention")},
    "subwords": lambda: subwords(),
    "ngrams": lambda: BagOfEmbeddings(K, V, 8, ngrams=3, buckets=50),
    **{f"lstm-{kind}": lambda kind=kind: BidirectionalLSTM(K, V, 8, 2, pooling=kind) for kind in ("mean", "max", "first")},
    **{f"transformer-{kind}": lambda kind=kind: TextTransformer(K, V, 20, 8, heads=2, pooling=kind) for kind in ("mean", "first")},
}  # fmt: skip
LENGTHS = torch.tensor([7, 3, 1, 5])


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(params=[*NETS, "pretrained-mean", "pretrained-first", "pretrained-adapters"])
def net(request: pytest.FixtureRequest, bert: Path) -> TextNetwork:
    if request.param in NETS:
        return NETS[request.param]()
    kind = request.param.split("-")[1]
    lora = LoRA(2) if kind == "adapters" else None
    return PretrainedEncoder(K, str(bert), "first" if kind == "first" else "mean", lora=lora, attention="eager")


def padded(length: int, draw: int) -> tuple[Tensor, Tensor]:
    """The same four texts with other padding, in amount and content."""
    token = torch.randint(5, V, (4, 7), generator=torch.Generator().manual_seed(0))
    noise = torch.randint(0, V, (4, length), generator=torch.Generator().manual_seed(draw))
    mask = torch.arange(length) < LENGTHS[:, None]
    noise[:, :7] = noise[:, :7].where(~mask[:, :7], token)
    return noise, mask


def test_padding_s_amount_and_content_change_nothing(net: TextNetwork) -> None:
    net = net.double().eval()
    for train in (False, True):  # torch computes another way where gradients are wanted
        with torch.set_grad_enabled(train):
            one, other, more = (net(*padded(length, draw)) for length, draw in ((7, 1), (7, 2), (15, 3)))
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        torch.testing.assert_close(one, more, rtol=0, atol=1e-12)
        token, mask = padded(7, 1)
        alone = torch.cat(
            [net(token[n : n + 1, :length], mask[n : n + 1, :length]) for n, length in enumerate(LENGTHS)]
        )
        torch.testing.assert_close(one, alone, rtol=0, atol=1e-12)


def test_every_token_counts_and_gradients_flow(net: TextNetwork) -> None:
    net = net.double().eval()
    token, mask = padded(7, 1)
    logits = net(token, mask)
    other = token.clone()
    other[0, 6] = (token[0, 6] + 1) % 35 + 5
    changed = (net(other, mask) - logits).abs().sum(dim=1)
    assert (changed[1:] == 0).all()
    assert changed[0] > 0 or isinstance(net, BagOfEmbeddings)  # whose maximum may be another's
    logits.square().sum().backward()
    without = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


def test_pooling_s_reference_values() -> None:
    x = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [torch.nan, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    for kind, value in (
        ("mean", [2.0, -3.0]),
        ("max", [3.0, -2.0]),
        ("first", [1.0, -4.0]),
        ("attention", [2.0, -3.0]),
    ):
        torch.testing.assert_close(Pooling(2, kind)(x, mask), torch.tensor([value]))


def test_stages_hold_every_parameter_once(net: TextNetwork) -> None:
    found = [parameter for stage in stage_parameters(net) for parameter in stage]
    assert len(found) == len(set(map(id, found))) == len(list(net.parameters()))
    assert any(part is net.head for part in stages_of(net)[-1])


def test_frozen_stages_are_not_trained_and_compute_as_in_evaluation(bert: Path) -> None:
    net = PretrainedEncoder(K, str(bert), frozen=2)
    net.train()
    assert len(net.stages()) == 4
    for place, (stage, parameters) in enumerate(zip(net.stages(), stage_parameters(net), strict=True)):
        assert {parameter.requires_grad for parameter in parameters} == {place >= 2}
        assert {part.training for part in stage} == {place >= 2}
    whole = PretrainedEncoder(K, str(bert), frozen=-1)
    assert [name for name, p in whole.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    token, mask = padded(7, 1)
    torch.testing.assert_close(whole.forward_features(token, mask), whole.forward_features(token, mask), rtol=0, atol=0)


def test_weights_are_those_of_the_folder(bert: Path) -> None:
    import transformers

    net = PretrainedEncoder(K, str(bert)).eval()
    published = transformers.BertModel.from_pretrained(bert).eval()
    token, mask = padded(7, 1)
    theirs = published(input_ids=token, attention_mask=mask.long()).last_hidden_state
    mean = (theirs * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    torch.testing.assert_close(net.forward_features(token, mask), mean)
    assert {name for name, _ in net.encoder.named_parameters()} == {
        name for name, _ in published.named_parameters() if "pooler" not in name
    }


def test_mistakes(bert: Path) -> None:
    with pytest.raises(UserError, match=r"21 tokens, but it reads 20 at most; write data.init_args.max_length: 20"):
        NETS["transformer-mean"]()(torch.zeros(1, 21, dtype=torch.long), torch.ones(1, 21).bool())
    with pytest.raises(UserError, match="heads that divide dim"):
        TextTransformer(K, V, 20, dim=9, heads=2)
    with pytest.raises(UserError, match="sizes of at least 1 and 0 <= dropout < 1"):
        BagOfEmbeddings(K, V, 8, dropout=1.0)
    with pytest.raises(UserError, match="from -1 to 3"):
        PretrainedEncoder(K, str(bert), frozen=4)
    with pytest.raises(UserError, match="with lora"):
        PretrainedEncoder(K, str(bert), frozen=1, lora=LoRA())


def test_bags_do_not_know_order_and_others_do() -> None:
    token, mask = torch.randint(0, V, (2, 6)), torch.ones(2, 6).bool()
    for name, net in NETS.items():
        built: nn.Module = net().eval()
        same = torch.allclose(built(token, mask), built(token.flip(1), mask), atol=1e-6)
        assert same == name.startswith("bag"), name


def test_ngrams_are_pooled_with_the_tokens() -> None:
    net = BagOfEmbeddings(K, V, 8, ngrams=2, buckets=1)  # all pairs share one embedding
    token, mask = torch.tensor([[3, 4, 5, 9]]), torch.tensor([[True, True, True, False]])
    rows = net.embedding.weight[[3, 4, 5, V, V]]
    torch.testing.assert_close(net.forward_features(token, mask), rows.mean(dim=0, keepdim=True))
    with pytest.raises(UserError, match="ngrams 0"):
        BagOfEmbeddings(K, V, 8, ngrams=0)


def test_left_out_tokens_leave_something() -> None:
    net = BagOfEmbeddings(K, V, 8, token_dropout=0.9)
    token, mask = torch.arange(6).view(2, 3), torch.ones(2, 3, dtype=torch.bool)
    seen = torch.stack([net.forward_features(token, mask) for _ in range(50)])
    assert seen.isfinite().all()
    assert len(seen[:, 0].detach().unique(dim=0)) > 2
    whole = net.embedding.weight[token].mean(dim=1)
    torch.testing.assert_close(net.eval().forward_features(token, mask), whole)
