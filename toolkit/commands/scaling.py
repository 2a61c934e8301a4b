"""How large a step's batch is, and what that means for the learning rate."""

from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from toolkit.errors import UserError

FEW_SAMPLES = 16
"""Below it BatchNorm's statistics are noise: Wu and He, "Group Normalization", ECCV 2018, figure 1."""


@dataclass(frozen=True)
class ScalingOptions:
    """How the learning rate of the config follows the global batch.

    "linear": Goyal et al., "Accurate, Large Minibatch SGD", 2017. "sqrt": Krizhevsky, "One weird trick for
    parallelizing convolutional neural networks", 2014; for Adam, Malladi et al., "On the SDEs and Scaling Rules for
    Adaptive Gradient Algorithms", NeurIPS 2022.

    Args:
        rule: Multiply the learning rate by r, the global batch over ``base_batch_size`` ("linear"), by the square root
            of r ("sqrt"), or leave it ("none").
        base_batch_size: The global batch for which the config's learning rate was chosen.
    """

    rule: Literal["none", "linear", "sqrt"] = "none"
    base_batch_size: int | None = None

    def factor(self, global_batch: int) -> float:
        """By what the learning rate is multiplied.

        Raises:
            UserError: A rule needs a base, and a base a rule.

        >>> ScalingOptions("sqrt", 64).factor(256)
        2.0
        """
        if (self.rule == "none") != (self.base_batch_size is None):
            raise UserError(
                f"scaling: got rule {self.rule!r} and base_batch_size {self.base_batch_size}; write both, such as "
                "--scaling.rule linear --scaling.base_batch_size 256, or neither."
            )
        if self.base_batch_size is None:
            return 1.0
        if self.base_batch_size < 1:
            raise UserError(f"scaling.base_batch_size: need a positive number, got {self.base_batch_size}.")
        ratio = global_batch / self.base_batch_size
        return float(ratio if self.rule == "linear" else ratio**0.5)


@dataclass(frozen=True)
class GlobalBatch:
    """What one optimizer step is trained on.

    Args:
        batch_size: Samples of a training step, over all ranks.
        ranks: Processes.
        accumulate: Training steps whose gradients are added up.
        tokens: It is tokens that are counted, not samples.
    """

    batch_size: int
    ranks: int
    accumulate: int
    tokens: bool = False

    @property
    def size(self) -> int:
        """Samples in all."""
        return self.batch_size * self.accumulate

    def __str__(self) -> str:
        unit, ranks = " tokens" if self.tokens else "", "rank" if self.ranks == 1 else "ranks"
        return (
            f"global batch {self.size}{unit} = {self.ranks} {ranks} x {self.batch_size // self.ranks} per rank x "
            f"{self.accumulate} accumulated"
        )


def scaling_line(options: ScalingOptions, batch: GlobalBatch) -> str:
    """What is printed about a step's batch and learning rate.

    >>> scaling_line(ScalingOptions("linear", 64), GlobalBatch(batch_size=128, ranks=4, accumulate=2))
    'global batch 256 = 4 ranks x 32 per rank x 2 accumulated; learning rate x 4 (linear, base 64)'
    """
    if options.rule == "none":
        return f"{batch}; learning rate as configured"
    return f"{batch}; learning rate x {options.factor(batch.size):g} ({options.rule}, base {options.base_batch_size})"


def batch_norm_warning(net: nn.Module, per_rank: int) -> str | None:
    """What is wrong with BatchNorm on several ranks, if anything is: each normalises by its own few samples.

    >>> batch_norm_warning(nn.BatchNorm1d(4), per_rank=32) is None
    True
    """
    alone = any(isinstance(part, _BatchNorm) and not isinstance(part, nn.SyncBatchNorm) for part in net.modules())
    if per_rank >= FEW_SAMPLES or not alone:
        return None
    return (
        f"BatchNorm takes its statistics from the {per_rank} samples of one rank, which is little; set "
        "trainer.sync_batchnorm true (on GPUs), or a larger data.batch_size."
    )
