"""Models of the package ``transformers``: built from their configuration, filled from a folder or the hub."""

import inspect
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.hub import pretrained_file

Kind = Literal["AutoModel", "AutoModelForCausalLM"]
Attention = Literal["sdpa", "eager"]


def build_model(architecture: dict[str, Any], kind: Kind, attention: Attention) -> nn.Module:
    """A model with random weights, float32 whatever its file says: by what it is trained is the Trainer's precision.

    Args:
        architecture: Its ``config.json``.
        kind: Without or with the layer that predicts the next token.
        attention: torch's fused one, or written out.

    Raises:
        UserError: The package is missing or does not know the model.
    """
    transformers = _library()
    options = {name: value for name, value in architecture.items() if name != "model_type"}
    try:
        config = transformers.AutoConfig.for_model(architecture["model_type"], **options)
        model: Any = getattr(transformers, kind).from_config(config, attn_implementation=attention)
    except ValueError as error:
        raise UserError(f"pretrained: transformers cannot build this model: {str(error).splitlines()[0]}") from error
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # a layer for the first training's task, which would stay without a gradient
    built: nn.Module = model.float()
    return built


def pretrained_weights(pretrained: str, kind: Kind) -> dict[str, Tensor]:
    """The state dict of a pretrained model, float32, read without pickle.

    Raises:
        UserError: The files cannot be had, or do not hold all weights of the model.
    """
    transformers = _library()
    folder = pretrained_file(pretrained, "config.json").parent
    pretrained_file(pretrained, "model.safetensors")
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        auto = getattr(transformers, kind)
        model, info = auto.from_pretrained(
            folder, dtype="float32", output_loading_info=True, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"pretrained: {pretrained!r} cannot be read: {str(error).splitlines()[0]}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if missing:
        raise UserError(
            f"pretrained: {pretrained!r} lacks {len(missing)} weights of its own config.json, such as {missing[0]}."
        )
    state: dict[str, Tensor] = model.state_dict()
    return {name: weight for name, weight in state.items() if not name.startswith("pooler.")}


def longest_text(model: nn.Module) -> int | None:
    """How many tokens a model has positions for; None: any number.

    Those of RoBERTa's kin begin behind the number of the padding.
    """
    positions: int | None = getattr(model.config, "max_position_embeddings", None)
    for name, part in model.named_modules():
        is_table = name.endswith("position_embeddings") and isinstance(part, nn.Embedding)
        if positions is not None and is_table and part.padding_idx is not None:
            return positions - int(part.padding_idx) - 1
    return positions


def model_stages(model: nn.Module) -> list[list[nn.Module]]:
    """What comes before the blocks, each block, and what comes behind them.

    A model whose blocks are no list of as many, such as ALBERT, which goes through one block again and again, is a
    single stage with nothing behind.
    """
    depth: int = model.config.num_hidden_layers  # type: ignore[union-attr,assignment]
    lists = (part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)
    blocks = next(lists, None)
    if blocks is None:
        return [[model], []]
    inside = {id(part) for part in blocks.modules()}
    before: list[nn.Module] = []
    behind: list[nn.Module] = []
    reached = False
    for part in model.modules():
        reached = reached or part is blocks
        if id(part) not in inside and next(part.parameters(recurse=False), None) is not None:
            (behind if reached else before).append(part)
    return [before, *([block] for block in blocks), behind]


def cache_of(state: Sequence[Tensor]) -> Any:
    """The package's cache, filled with keys and values of each block in turn."""
    pairs = list(zip(state[::2], state[1::2], strict=True))
    return _library().DynamicCache(pairs)


def cache_argument(model: nn.Module) -> str:
    """The name by which a model takes its cache, which the package changed in its version 5."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            "pretrained: this network needs the package transformers, which is not installed; write python -m pip "
            'install "fulgurite[language]", or use a network that is trained from scratch.'
        ) from error
    return transformers
