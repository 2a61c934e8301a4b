"""A pretrained encoder with a fresh head. Shape legend: B batch, T tokens, D width of a token, K classes."""

from typing import Any, Self

from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.language.networks.text_network import TextNetwork
from toolkit.language.pooling import Kind, Pooling
from toolkit.nn.backbone import Staged
from toolkit.nn.cosine_head import CosineLinear
from toolkit.nn.hub import read_architecture, source_of
from toolkit.nn.lora import LoRA, add_adapters
from toolkit.nn.pretrained import PretrainedNetwork, pretrained_enabled
from toolkit.nn.taken_weights import Transfer
from toolkit.nn.transformers_model import Attention, build_model, longest_text, model_stages, pretrained_weights


class PretrainedEncoder(TextNetwork, PretrainedNetwork, Staged):
    """Any encoder that the package ``transformers`` knows, pooled, and a linear layer.

    Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018; Devlin et al., "BERT",
    NAACL 2019. A checkpoint holds all weights, and the architecture as plain values: the folder is needed once.

    Args:
        num_classes: K.
        pretrained: A folder with ``config.json`` and ``model.safetensors``, or a name on the Hugging Face hub; linked
            from the data's `PretrainedTokenizer`.
        pooling: See `toolkit.language.pooling.Pooling`.
        dropout: Probability on what is pooled.
        cosine_scale: Give the head the scaled cosine of `toolkit.nn.cosine_head.CosineLinear`, which the callback
            `ImprintedHead` can fill; None: a linear layer.
        frozen: How many stages from the input on are not trained, and compute as in evaluation: 1 the embeddings, 2
            also the first block, ...; -1 all but the head.
        lora: Train low-rank adapters and the head, and nothing else.
        attention: torch's fused one, or written out: faster where texts are short, and in bfloat16 on a CPU.
        architecture: The ``config.json``; a checkpoint brings it, and else it is read.

    Raises:
        UserError: A package is missing, the model cannot be had, or a number is out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        pretrained: str | None,
        pooling: Kind = "mean",
        dropout: float = 0.1,
        cosine_scale: float | None = None,
        frozen: int = 0,
        lora: LoRA | None = None,
        attention: Attention = "sdpa",
        architecture: dict[str, Any] | None = None,
    ) -> None:
        pretrained = source_of(pretrained)
        architecture = architecture or read_architecture(pretrained)
        encoder = build_model(architecture, "AutoModel", attention)
        config: Any = encoder.config
        super().__init__(num_classes, config.hidden_size, dropout)
        self.pretrained, self.architecture = pretrained, architecture
        self.max_length = longest_text(encoder)
        self.encoder = encoder
        self.pooling = Pooling(config.hidden_size, pooling)
        if cosine_scale is not None:
            self.head = CosineLinear(config.hidden_size, num_classes, cosine_scale)
        else:
            nn.init.normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)
        if pretrained_enabled():
            self.load_pretrained()
        self.frozen = self._stages_to_freeze(frozen, lora)
        if lora is not None:
            add_adapters(self.encoder, lora)
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.train()  # a fit keeps the modes that a network comes with, so what is frozen must come in evaluation

    def _stages_to_freeze(self, frozen: int, lora: LoRA | None) -> int:
        stages = len(self.stages())
        if not -1 <= frozen < stages or (frozen and lora is not None):
            raise UserError(
                f"model.init_args.net.init_args.frozen: need a number from -1 to {stages - 1}, the stages of this "
                f"model but its head, and 0 with lora, which freezes them all; got {frozen}."
            )
        return stages - 1 if frozen == -1 else frozen

    def load_pretrained(self) -> None:
        """Fill the encoder from its folder or the hub; the head stays as it is."""
        state = pretrained_weights(self.pretrained, "AutoModel")
        self.encoder.load_state_dict(state)
        head = [f"head.{name}" for name in self.head.state_dict()]
        self.transfer = Transfer(self.pretrained, [f"encoder.{name}" for name in state], skipped=head)

    def found_arguments(self) -> dict[str, Any]:
        """The architecture."""
        return {"architecture": self.architecture}

    def stages(self) -> list[list[nn.Module]]:
        """What comes before the blocks, each block, and the head with what comes behind the blocks."""
        *stages, behind = model_stages(self.encoder)
        return [*stages, [*behind, self.pooling, self.head]]

    def _frozen_parts(self) -> list[nn.Module]:
        return [part for stage in self.stages()[: self.frozen] for part in stage]

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; what is frozen stays in evaluation."""
        super().train(mode)
        if hasattr(self, "frozen"):  # not yet while the network is built
            if self.frozen == len(self.stages()) - 1:
                self.encoder.eval()
            for part in self._frozen_parts():
                part.eval()
        return self

    def forward_features(self, token: Tensor, mask: Tensor) -> Tensor:
        """``(B, D)``."""
        x = self.encoder(input_ids=token.where(mask, 0), attention_mask=mask.long()).last_hidden_state  # (B, T, D)
        pooled: Tensor = self.pooling(x, mask)
        return pooled
