"""What torchvision publishes: networks and weights by name."""

import difflib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torchvision.models as tv
from torchvision.models import WeightsEnum

from toolkit.errors import UserError
from toolkit.nn.pretrained import url_file_name


def check_name(name: str, module: ModuleType, what: str, usable: Callable[[str], bool] = lambda name: True) -> None:
    """Refuse a name that torchvision does not have.

    Args:
        name: Of a network.
        module: Of torchvision, where it is looked for.
        what: What networks there are called, for the message.
        usable: Which of them will do.

    Raises:
        UserError: Says which names are like it.
    """
    names = [one for one in tv.list_models(module=module) if usable(one)]
    if name not in names:
        close = difflib.get_close_matches(name.lower(), names)
        hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"Choose one of {', '.join(names)}."
        raise UserError(f"name: torchvision has no {what} {name!r}. {hint}")


def published(
    name: str, weights: str | None, usable: Callable[[WeightsEnum], bool] = lambda entry: True
) -> WeightsEnum | None:
    """The entry of torchvision for weights of a network; None for a file that is not one of its own.

    Args:
        name: Of the network.
        weights: A name, or the path of a file; a published file is known by its name.
        usable: Which entries will do.

    Raises:
        UserError: A name that there is not.
    """
    if weights is None:
        return None
    entries = {key: entry for key, entry in tv.get_model_weights(name).__members__.items() if usable(entry)}
    if weights in entries:
        return entries[weights]
    path = Path(weights)
    if not (path.suffix or len(path.parts) > 1 or path.is_file()):
        raise UserError(
            f"weights: {name} has no {weights!r}, only {', '.join(sorted(entries))}; "
            "or give the path of a state dict, such as ./weights.pth."
        )
    return next((entry for entry in entries.values() if url_file_name(entry.url) == path.name), None)


def address(entry: WeightsEnum | None, weights: str | None) -> str | None:
    """Where weights are downloaded from; None if they are a file's."""
    return entry.url if entry is not None and weights in type(entry).__members__ else None
