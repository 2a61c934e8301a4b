"""Encoders of the package transformers that are unlike BERT: one block that is used again, positions with an offset."""

from typing import Any

import pytest
import torch

from toolkit.language.networks.pretrained_encoder import PretrainedEncoder
from toolkit.nn.backbone import stage_parameters
from toolkit.nn.pretrained import without_pretrained

TINY: dict[str, Any] = {
    **{"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2},
    **{"intermediate_size": 16, "embedding_size": 4, "max_position_embeddings": 34, "pad_token_id": 1},
}


def encoder(kind: str, **options: Any) -> PretrainedEncoder:
    with without_pretrained():
        return PretrainedEncoder(2, "folder", architecture={**TINY, "model_type": kind}, **options)


def test_an_encoder_without_a_list_of_its_blocks_is_one_stage() -> None:
    net = encoder("albert", frozen=-1)
    assert [len(stage) for stage in stage_parameters(net)] == [len(list(net.encoder.parameters())), 2]
    assert [name for name, parameter in net.named_parameters() if parameter.requires_grad] == [
        "head.weight",
        "head.bias",
    ]


@pytest.mark.parametrize(("kind", "longest"), [("bert", 34), ("albert", 34), ("roberta", 32), ("xlm-roberta", 32)])
def test_the_longest_text_can_be_read(kind: str, longest: int) -> None:
    net = encoder(kind)
    assert net.max_length == longest
    token = torch.full((1, longest), 5)
    assert net(token, torch.ones_like(token, dtype=torch.bool)).shape == (1, 2)
