"""Parts of a network that stay as they are."""

from torch import nn


def frozen_parts(module: nn.Module) -> list[nn.Module]:
    """The largest parts that have parameters of which none trains, from the input on.

    They are what must compute as in evaluation if it is to stay as it is: BatchNorm's statistics follow the batches
    whatever ``requires_grad`` says. A dropout layer beside something that trains is not among them.

    >>> net = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), nn.Dropout(), nn.Linear(2, 2))
    >>> _ = net[0].requires_grad_(False)
    >>> [type(part).__name__ for part in frozen_parts(net)]
    ['Sequential']
    """
    own = list(module.parameters())
    if not own:
        return []
    if not any(parameter.requires_grad for parameter in own):
        return [module]
    return [part for child in module.children() for part in frozen_parts(child)]
