"""Images of a generative model, as files."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from toolkit.commands.options import OptionParser
from toolkit.errors import UserError
from toolkit.generative.image_generator import ImageGenerator, class_number
from toolkit.generative.picture_grid import picture_grid

USAGE = (
    "python cli.py sample RUN_FOLDER_OR_CHECKPOINT [--count 100] [--seed 0] [--class NAME ...] [--output FOLDER] "
    "[--accelerator auto]"
)


def sample_images(task: ImageGenerator, words: Sequence[str], checkpoint: Path) -> Path:
    """Draw, write ``grid.png`` and one PNG an image, and say where.

    Args:
        task: The model.
        words: The options.
        checkpoint: Whose run gets the images, without ``--output``.

    Returns:
        The folder.

    Raises:
        UserError: A mistake in the options; a class that there is not.
    """
    parser = OptionParser("sample", USAGE)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--class", dest="classes", nargs="+", default=[])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(words)
    if options.count < 1:
        raise UserError(f"sample: count: need at least 1, got {options.count}.")
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
