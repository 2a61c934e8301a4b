"""The verb `sample`: images of a generative model, from its checkpoint alone."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from toolkit.checkpoint import load
from toolkit.commands.evaluate import take_checkpoint
from toolkit.commands.parser import take_option
from toolkit.commands.parts import Parts
from toolkit.errors import UserError
from toolkit.generative.image_generator import ImageGenerator, class_number
from toolkit.generative.picture_grid import picture_grid


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"sample: {message}. Write python cli.py sample RUN_FOLDER_OR_CHECKPOINT [--count 100].")


def sample(args: Sequence[str], parts: Parts) -> Path:
    """Draw, write ``grid.png`` and one PNG an image, and say where.

    Args:
        args: The command line after the verb.
        parts: Finds the newest run of a config.

    Returns:
        The folder.

    Raises:
        UserError: A mistake in the command line; no generative model; a class that there is not.
    """
    parser = _Parser(prog="cli.py sample", add_help=False)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--class", dest="classes", nargs="+", default=[])
    parser.add_argument("--output", type=Path)
    checkpoint, rest = take_checkpoint(args, parts)
    _, rest = take_option(rest, "runs")
    options = parser.parse_args(rest)
    if options.count < 1:
        raise UserError(f"sample: count: need at least 1, got {options.count}.")
    task = load(checkpoint)
    if not isinstance(task, ImageGenerator):
        raise UserError(f"sample: {type(task).__name__} draws no images; give a checkpoint of a generative model.")
    label = _labels(task, options.classes, options.count)
    image = task.sample(options.count, options.seed, label)
    folder: Path = options.output or checkpoint.parent.parent / "samples" / f"seed_{options.seed}"
    _write(folder, image, label, task.class_names)
    print(f"samples     {folder}  ({len(image)} images, grid.png)", flush=True)
    return folder


def _labels(task: ImageGenerator, classes: Sequence[str], count: int) -> Tensor | None:
    if classes and not task.is_conditional:
        raise UserError(f"sample: this {type(task).__name__} knows no classes; leave --class out.")
    if not task.is_conditional:
        return None
    numbers = [class_number(name, task.class_names) for name in classes] or list(range(len(task.class_names)))
    return torch.tensor(numbers)[torch.arange(count) % len(numbers)]


def _write(folder: Path, image: Tensor, label: Tensor | None, class_names: Sequence[str]) -> None:
    import PIL.Image

    classes = 1 if label is None else len(set(label.tolist()))
    columns = classes if classes > 1 else math.ceil(math.sqrt(len(image)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(picture_grid(image, columns)).save(folder / "grid.png")
        for number, single in enumerate(image):
            pixels = single.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            name = "" if label is None else "_" + class_names[int(label[number])].replace("/", "-").replace(" ", "-")
            picture = PIL.Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
            picture.save(folder / f"{number:05d}{name}.png")
    except OSError as error:
        raise UserError(
            f"sample: cannot write to {str(folder)!r} ({error.strerror}); give another --output."
        ) from error
