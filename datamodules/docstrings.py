"""Real text that every Python brings: what the standard library says of itself."""

import ast
import sysconfig
from functools import cache
from pathlib import Path

from datamodules.labelled_text import Row
from toolkit.errors import UserError

PACKAGES = ("asyncio", "email", "http", "importlib", "logging", "multiprocessing", "unittest", "xml")
WORDS = (5, 100)
"""Fewest and most: shorter ones say nothing of where they stand."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def docstrings() -> tuple[Row, ...]:
    """The first paragraphs of the standard library's docstrings, each once, labelled with their package.

    They are read from its sources. One that two packages share is left out.

    Raises:
        UserError: This Python comes without sources.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, Row] = {}
    shared = set()
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            place = file.relative_to(root)
            if "test" in place.parts or "tests" in place.parts:
                continue
            for node in ast.walk(ast.parse(file.read_bytes())):
                text = _first_paragraph(node) if isinstance(node, DOCUMENTED) else ""
                if not WORDS[0] <= len(text.split()) <= WORDS[1]:
                    continue
                line = getattr(node, "lineno", 1)
                if found.setdefault(text, Row(text, package, f"{place}:{line}")).label != package:
                    shared.add(text)
    rows = tuple(row for text, row in found.items() if text not in shared)
    if {row.label for row in rows} != set(PACKAGES):
        raise UserError(f"data: this Python has no sources below {str(root)!r}; give data.init_args.train, a file.")
    return rows


def _first_paragraph(node: ast.AsyncFunctionDef | ast.FunctionDef | ast.ClassDef | ast.Module) -> str:
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
