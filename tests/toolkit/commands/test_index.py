import ast
import importlib
import subprocess
import sys

from tests.conftest import ROOT
from toolkit.commands.index import PACKAGES, index, subclasses
from toolkit.commands.listing import listing
from toolkit.task import Task


def test_short_names_are_unique_and_import() -> None:
    names = [
        node.name
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert sorted(names) == sorted(index())
    for entry in index().values():
        module, _, name = entry.path.rpartition(".")
        assert getattr(importlib.import_module(module), name).__name__ == entry.name


def test_static_subclasses_agree_with_python() -> None:
    found = {entry.name for entry in subclasses("Task")}
    assert "ImageClassification" in found
    for entry in subclasses("Task"):
        module, _, name = entry.path.rpartition(".")
        assert issubclass(getattr(importlib.import_module(module), name), Task)


def test_every_listed_thing_has_a_line_of_help() -> None:
    for line in listing().splitlines():
        if line.startswith("  "):
            assert len(line.split(maxsplit=1)) == 2, line


def test_help_and_list_do_not_import_torch() -> None:
    code = "import sys; from cli import main; main(['{}']); assert 'torch' not in sys.modules, 'torch was imported'"
    for verb in ("--help", "list"):
        done = subprocess.run([sys.executable, "-c", code.format(verb)], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "fit" in done.stdout or "ImageClassification" in done.stdout
