"""Which packages a config or a checkpoint may name: it is data, and must not import whatever it likes."""

import sys
from collections.abc import Iterable
from pathlib import Path

PACKAGES = ("toolkit", "datamodules", "callbacks", "torch", "torchvision", "torchmetrics", "lightning", "gymnasium")
"""Allowed everywhere."""

_named: set[str] = set()


def allow(packages: Iterable[str]) -> None:
    """Allow further packages, which the user has named."""
    _named.update(name.partition(".")[0] for name in packages)


def allowed_packages() -> list[str]:
    """The toolkit's, those that the user has named, and those that lie in the working directory."""
    here = {path.name.removesuffix(".py") for path in Path.cwd().iterdir() if path.suffix == ".py" or path.is_dir()}
    own = {name for name in here if name.isidentifier() and name not in sys.stdlib_module_names}
    return sorted({*PACKAGES, *_named, *own})


def is_allowed(import_path: str) -> bool:
    """Whether a dotted name lies in an allowed package.

    >>> is_allowed("torch.nn.Linear"), is_allowed("subprocess.run")
    (True, False)
    """
    return import_path.partition(".")[0] in allowed_packages()


def enforce() -> None:
    """Make jsonargparse refuse to import anything else."""
    from jsonargparse import set_parsing_settings

    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=allowed_packages())
