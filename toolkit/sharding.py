"""Which parts of a network repeat, and how its parameters are dealt to several devices."""

from collections import Counter
from collections.abc import Iterator

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from toolkit.errors import UserError

WITHOUT_FORWARD = (nn.ModuleList, nn.ModuleDict)


def blocks(net: nn.Module) -> Iterator[nn.Module]:
    """The outermost repeated parts of a network: a transformer's layers, a ResNet's residual blocks.

    These are the members of a ``Sequential`` or ``ModuleList`` whose class is there more than once, and which have
    parameters and parts of their own. They are what is gathered, recomputed or compiled at a time.

    >>> net = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, batch_first=True), num_layers=2)
    >>> [type(block).__name__ for block in blocks(net)]
    ['TransformerEncoderLayer', 'TransformerEncoderLayer']
    """
    children = list(net.children())
    is_container = isinstance(net, (nn.Sequential, nn.ModuleList))
    kinds = Counter(type(child) for child in children)
    for child in children:
        repeats = is_container and kinds[type(child)] > 1 and not isinstance(child, WITHOUT_FORWARD)
        if repeats and any(child.children()) and _has_parameters(child):
            yield child
        else:
            yield from blocks(child)


def shard(task: nn.Module, mesh: DeviceMesh) -> None:
    """Deal the parameters of a task's networks to the devices of a mesh (FSDP2), each block and the rest of a network.

    Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", VLDB 2023. What is sharded already
    stays as it is.

    Raises:
        UserError: A parameter belongs to no network of the task.
    """
    own = [name for name, _ in task.named_parameters(recurse=False)]
    if own:
        raise UserError(
            f"trainer.strategy: {type(task).__name__} has the parameter {own[0]!r} outside of its networks, which "
            "cannot be sharded; move it into an nn.Module whose forward uses it, or use strategy ddp."
        )
    for network in _networks(task):
        if isinstance(network, FSDPModule):
            continue
        for part in [*blocks(network), network]:
            # Torch would keep the outermost gathered after a forward pass: an evaluation that swaps in averaged weights
            # would leave the next step with stale ones.
            fully_shard(part, mesh=mesh, reshard_after_forward=True)


def _networks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, WITHOUT_FORWARD):
            yield from _networks(child)
        elif _has_parameters(child):
            yield child


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
