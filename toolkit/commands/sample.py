"""The verb `sample`: images or text of a generative model, from its checkpoint alone."""

from collections.abc import Sequence
from typing import Any

import torch

from toolkit.checkpoint import load
from toolkit.commands.evaluate import take_checkpoint
from toolkit.commands.parser import take_option
from toolkit.commands.parts import Parts
from toolkit.commands.sample_images import sample_images
from toolkit.commands.sample_text import sample_text
from toolkit.errors import UserError
from toolkit.generative.image_generator import ImageGenerator
from toolkit.language.text_generator import TextGenerator


def sample(args: Sequence[str], parts: Parts) -> Any:
    """Draw what the model draws.

    Args:
        args: The command line after the verb.
        parts: Finds the newest run of a config.

    Returns:
        The folder of the images, or the texts.

    Raises:
        UserError: A mistake in the command line; no generative model.
    """
    checkpoint, rest = take_checkpoint(args, parts)
    _, rest = take_option(rest, "runs")
    accelerator, rest = take_option(rest, "accelerator")
    device = _device(accelerator[-1] if accelerator else "auto")
    task = load(checkpoint).to(device)
    if isinstance(task, TextGenerator):
        return sample_text(task, rest)
    if isinstance(task, ImageGenerator):
        return sample_images(task, rest, checkpoint)
    raise UserError(
        f"sample: {type(task).__name__} draws no images and writes no text; give a checkpoint of a generative model."
    )


def _device(accelerator: str) -> torch.device:
    """The one that the Trainer's word means."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if accelerator == "cpu" or (accelerator == "auto" and found is None):
        return torch.device("cpu")
    if found is None or accelerator not in ("auto", "gpu", found.type):
        raise UserError(
            f"sample: --accelerator: there is no {accelerator!r} here; write auto, cpu" + (", gpu." if found else ".")
        )
    return found
