"""What the toolkit holds, read from its sources without importing them: short names, `list`, and "did you mean".

Parsing the sources takes some hundredths of a second; importing them would take torch's seconds.
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("toolkit", "datamodules", "callbacks")


@dataclass(frozen=True)
class Entry:
    """A public class of the toolkit."""

    name: str
    path: str
    """Import path, such as ``toolkit.nn.mlp.MLP``."""
    bases: tuple[str, ...]
    """Names of the base classes, last part only."""
    summary: str
    """First line of the docstring."""


@cache
def index() -> dict[str, Entry]:
    """All public classes by their short name, which is unique in the toolkit."""
    entries = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    entries[node.name] = _entry(module, node)
    return entries


def _entry(module: str, node: ast.ClassDef) -> Entry:
    bases = tuple(ast.unparse(base).split("[")[0].rsplit(".", 1)[-1] for base in node.bases)
    summary = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
    return Entry(node.name, f"{module}.{node.name}", bases, summary)


def subclasses(*roots: str) -> list[Entry]:
    """Concrete descendants of classes, by name and transitively; what is abstract (`ABC`) is left out.

    Args:
        *roots: Short names of base classes, of the toolkit or not (``Module``).
    """
    known, found = set(roots), []
    pending = dict(index())
    while grown := [entry for entry in pending.values() if known & set(entry.bases)]:
        for entry in grown:
            known.add(entry.name)
            del pending[entry.name]
            if "ABC" not in entry.bases:
                found.append(entry)
    return sorted(found, key=lambda entry: entry.path)


TWO_OF_A_NAME = {"ReduceLROnPlateau": "torch.optim.lr_scheduler.ReduceLROnPlateau"}
"""Which class is meant where Lightning has one of the same name: its own asks for what ``scheduler_config`` says."""


def full_path(name: str) -> str:
    """The import path of a short name; anything else is given back as it came."""
    if name in TWO_OF_A_NAME:
        return TWO_OF_A_NAME[name]
    return index()[name].path if name in index() else name
