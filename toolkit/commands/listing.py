"""The verb `list`: families, tasks, DataModules, networks, callbacks and configs, each with a line of help."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from toolkit.commands.index import ROOT, Entry, subclasses
from toolkit.errors import UserError


def show(args: Sequence[str]) -> None:
    """Print the list.

    Args:
        args: None are known.
    """
    if args:
        raise UserError(f"list takes no options, got {' '.join(args)}.")
    print(listing())


def listing() -> str:
    """The whole list as text; nothing is imported for it."""
    tasks = subclasses("Task")
    parts = {
        "families": list(_families(tasks)),
        "tasks": _rows(tasks),
        "datamodules": _rows(subclasses("DataSource")),
        "networks": _rows([entry for entry in subclasses("Module", "PretrainedNetwork") if _is_network(entry)]),
        "callbacks": _rows([entry for entry in subclasses("Callback", "WeightAveraging") if "callbacks" in entry.path]),
        "configs": list(_configs()),
    }
    width = max(len(name) for rows in parts.values() for name, _ in rows)
    lines = []
    for title, rows in parts.items():
        lines += [f"{title}:", *(f"  {name:<{width}}  {help_}" for name, help_ in rows), ""]
    return "\n".join(lines)


def _rows(entries: list[Entry]) -> list[tuple[str, str]]:
    return [(entry.name, entry.summary) for entry in entries]


def _families(tasks: list[Entry]) -> Iterator[tuple[str, str]]:
    names = {entry.path.split(".")[1] for entry in tasks}
    for name in sorted(names):
        own = ", ".join(entry.name for entry in tasks if entry.path.split(".")[1] == name)
        yield name, own


def _is_network(entry: Entry) -> bool:
    """A network by where it lies: a family's ``networks/``, or a file of `toolkit.nn` that is named after it."""
    *_, folder, module, name = entry.path.split(".")
    if folder == "nn" and module != "normalize":  # a file of its own, but a layer
        return name.lower().removeprefix("cifar") == module.replace("_", "")
    return folder == "networks"


def _configs() -> Iterator[tuple[str, str]]:
    files = (ROOT / "configs").rglob("*.y*ml")
    for file in sorted(file for file in files if file.parent.name != "cluster"):  # job templates
        first = file.read_text().partition("\n")[0]
        yield _relative(file), first.lstrip("# ") if first.startswith("#") else ""


def _relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()
