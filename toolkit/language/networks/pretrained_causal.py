"""A pretrained language model. Shape legend: B batch, T tokens, V vocabulary, h heads, D width of a head, L blocks."""

from typing import Any

from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.language.networks.language_network import LanguageNetwork, State
from toolkit.nn.backbone import Staged
from toolkit.nn.hub import read_architecture, source_of
from toolkit.nn.lora import LoRA, add_adapters
from toolkit.nn.pretrained import PretrainedNetwork, pretrained_enabled
from toolkit.nn.taken_weights import Transfer
from toolkit.nn.transformers_model import (
    Attention,
    build_model,
    cache_argument,
    cache_of,
    model_stages,
    pretrained_weights,
)


class PretrainedCausal(LanguageNetwork, PretrainedNetwork, Staged):
    """Any decoder-only model that the package ``transformers`` knows, such as GPT-2, whole or with adapters.

    Radford et al., "Language Models are Unsupervised Multitask Learners", 2019. Where the vocabulary of the weights was
    rounded up, the logits beyond the tokenizer's are left out.

    Args:
        vocabulary_size: V, that of the tokenizer.
        pretrained: A folder with ``config.json`` and ``model.safetensors``, or a name on the Hugging Face hub; linked
            from the data's `PretrainedTokenizer`.
        lora: Train low-rank adapters, and nothing else.
        attention: torch's fused one, or written out.
        architecture: The ``config.json``; a checkpoint brings it, and else it is read.

    Raises:
        UserError: A package is missing, the model cannot be had, or its vocabulary is another one.
    """

    def __init__(
        self,
        vocabulary_size: int,
        pretrained: str | None,
        lora: LoRA | None = None,
        attention: Attention = "sdpa",
        architecture: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.pretrained = source_of(pretrained)
        self.architecture = architecture or read_architecture(self.pretrained)
        self.vocabulary_size = vocabulary_size
        model: Any = build_model(self.architecture, "AutoModelForCausalLM", attention)
        self.model = model
        if model.config.vocab_size < vocabulary_size:
            raise UserError(
                f"PretrainedCausal: {self.pretrained!r} has {model.config.vocab_size} tokens, the data's tokenizer "
                f"{vocabulary_size}; write data.init_args.tokenizer: PretrainedTokenizer with the same model."
            )
        self.block_size: int = model.config.max_position_embeddings
        if pretrained_enabled():
            self.load_pretrained()
        if lora is not None:
            model.requires_grad_(False)
            add_adapters(model.base_model, lora)
        self.train()

    def load_pretrained(self) -> None:
        """Fill the model from its folder or the hub."""
        state = pretrained_weights(self.pretrained, "AutoModelForCausalLM")
        self.model.load_state_dict(state)
        self.transfer = Transfer(self.pretrained, [f"model.{name}" for name in state])

    def found_arguments(self) -> dict[str, Any]:
        """The architecture."""
        return {"architecture": self.architecture}

    def stages(self) -> list[list[nn.Module]]:
        """What comes before the blocks, each block, and what comes behind them."""
        return model_stages(self.model)

    def forward(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State | None]:
        """Logits ``(B, T, V)``; with a state, keys and values ``(B, h, S + T, D)`` of each block in turn.

        Raises:
            UserError: More tokens than it can look back on.
        """
        length = token.shape[1] + (0 if state is None else state[0].shape[2])
        if self.block_size < length:
            raise UserError(
                f"PretrainedCausal: {length} tokens, but it reads {self.block_size} at most; write a smaller "
                "data.init_args.block_size."
            )
        if state is None:
            output = self.model(input_ids=token, use_cache=False)
            return output.logits[..., : self.vocabulary_size], None
        cache = cache_of(state)
        output = self.model(input_ids=token, use_cache=True, **{cache_argument(self.model): cache})
        after = tuple(part for layer in cache.layers for part in (layer.keys, layer.values))
        return output.logits[..., : self.vocabulary_size], after

    def tables(self) -> list[nn.Module]:
        """Embeddings and head, which may share their weights."""
        model: Any = self.model
        parts = (model.get_input_embeddings(), model.get_output_embeddings())
        return [part for part in parts if part is not None]

    def empty_state(self, batch_size: int) -> State:
        """Keys and values of no token."""
        config: Any = self.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        none: Tensor = next(self.model.parameters()).new_zeros(batch_size, heads, 0, width)
        depth: int = config.num_hidden_layers
        return (none,) * (2 * depth)
