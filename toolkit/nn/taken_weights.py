"""Which weights a network took over from somewhere else."""

from dataclasses import dataclass, field
from pathlib import Path

SHOWN = 6
"""Names in a line; the rest is counted."""


@dataclass
class Transfer:
    """Which weights of a network came from a file or a checkpoint, by name."""

    source: str | Path
    taken: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """In the network, but not taken; where it is no head, with the reason."""
    unused: list[str] = field(default_factory=list)
    """In the source only."""

    def lines(self) -> list[str]:
        """What to print.

        >>> Transfer("a.ckpt", taken=["stem.weight"], skipped=["head.weight"]).lines()
        ['backbone    a.ckpt: 1 weights taken', '            skipped: head.weight']
        """
        rows = [f"backbone    {self.source}: {len(self.taken)} weights taken"]
        for name, weights in (("reshaped", self.reshaped), ("skipped", self.skipped), ("unused", self.unused)):
            if weights:
                more = f" and {len(weights) - SHOWN} more" if len(weights) > SHOWN else ""
                rows.append(f"{'':<12}{name}: {', '.join(weights[:SHOWN])}{more}")
        return rows
