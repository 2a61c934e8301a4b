"""Tasks, networks, losses and metrics: what is trained.

`toolkit.load(run_folder_or_checkpoint)` gives a trained task back.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.checkpoint import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `python cli.py --help` need not import torch."""
    if name == "load":
        from toolkit.checkpoint import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
