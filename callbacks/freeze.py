"""Parts of a network that are not trained."""

from collections.abc import Sequence

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from toolkit.errors import UserError
from toolkit.nn.backbone import stage_parameters, stages_of
from toolkit.task import Task


class Freeze(Callback):
    """Keeps stages or named parts of a task's network as they are for a whole fit, BatchNorm's statistics included.

    What is frozen gets no gradient, is not given to the optimizer, and computes as in evaluation: BatchNorm by its
    statistics, dropout not at all. It follows from the arguments alone, so a resumed run freezes the same, and DDP is
    told before it looks for gradients. For any network; the stages are those of `toolkit.nn.backbone.stages_of`.

    Args:
        stages: How many stages, counted from the input; negative: all but so many, counted from the head, so -1 is all
            but the head.
        names: Further parts, by their names in the network, such as "stem" or "blocks.0".
        norm_only: Freeze of all these the BatchNorm layers alone: for batches too small for statistics.

    Raises:
        UserError: Nothing is named; at the start of a fit, a number of stages or a name that the network has not.
    """

    def __init__(self, stages: int = 0, names: Sequence[str] = (), norm_only: bool = False) -> None:
        if not stages and not names:
            raise UserError(
                "Freeze: says nothing to freeze; write stages: -1 for all but the head, or names such as [stem]."
            )
        self.stages, self.names, self.norm_only = stages, list(names), norm_only

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Freeze, before the optimizer asks which parameters train."""
        if stage != "fit":
            return
        assert isinstance(pl_module, Task)
        parts = self._parts(pl_module.net)
        if self.norm_only:
            parts = self._norms(pl_module.net, parts)
            if not parts:
                raise UserError("Freeze.norm_only: there is no BatchNorm in these parts; leave norm_only out.")
        elif self.stages:  # what belongs to the network itself, such as a class token, lies next to the input
            for parameters in stage_parameters(pl_module.net)[: self.stages]:
                for parameter in parameters:
                    parameter.requires_grad_(False)
        for part in parts:
            part.requires_grad_(False)
        pl_module.rest_frozen(parts)
        parameters = list(pl_module.net.parameters())
        frozen = sum(parameter.numel() for parameter in parameters if not parameter.requires_grad)
        rank_zero_info(f"freeze      {frozen:,} of {sum(p.numel() for p in parameters):,} parameters stay as they are")

    def _norms(self, net: nn.Module, parts: Sequence[nn.Module]) -> list[nn.Module]:
        """BatchNorm of these parts, and where stages are frozen that between them: without scales it is of no stage."""
        train = stages_of(net)[self.stages :] if self.stages else [[net]]
        others = {layer for stage in train for part in stage for layer in part.modules()}
        chosen = {layer for part in parts for layer in part.modules()} | (set(net.modules()) - others)
        return [layer for layer in net.modules() if isinstance(layer, _BatchNorm) and layer in chosen]

    def _parts(self, net: nn.Module) -> list[nn.Module]:
        stages = stages_of(net)
        if not -len(stages) < self.stages < len(stages):
            raise UserError(
                f"Freeze.stages: need a number from {1 - len(stages)} to {len(stages) - 1}, for of the {len(stages)} "
                f"stages of {type(net).__name__} one must train; got {self.stages}."
            )
        chosen = stages[: self.stages] if self.stages else []  # a negative number counts from the head
        found = [part for stage in chosen for part in stage]
        modules = dict(net.named_modules())
        for name in self.names:
            if not name or name not in modules:
                inner = ", ".join(key for key in modules if key and key.count(".") < 2)
                raise UserError(f"Freeze.names: {type(net).__name__} has no part {name!r}, but {inner[:400]}.")
            found.append(modules[name])
        return found
