"""Readable errors: one message with the key's path, what is wrong, and what was perhaps meant.

jsonargparse explains a failed parse as a tree: which key, which class, which branch of which Union. The reader needs
the leaf and the path to it. The tree is read by its stable phrases; a message without them stays as it is.
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path

from toolkit.commands.index import full_path, index

_KEY = re.compile(r'Parser key "(?P<key>[^"]+)":?')
_CLASS = re.compile(r"Problem with given class_path '(?P<path>[^']+)'")
_OPTION = re.compile(r"(?:Option|Key) '(?P<key>[^']+)' is not (?:accepted|expected)")
_VALUE = re.compile(r"Expected an? (?P<type>.+?)(?:\. Got value: (?P<value>.*))?$")
_NOISE = ("Does not validate against", "Subtypes:", "Errors:", "Given value", "Expected a path but")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A closing sentence with the nearest known word, or nothing.

    >>> did_you_mean("adamm", ["Adam", "SGD"])
    " Did you mean 'Adam'?"
    """
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


def accepted_arguments(class_path: str) -> list[str]:
    """Names of a class's constructor arguments; those of the bases too where it passes ``**kwargs`` on."""
    module, _, name = class_path.rpartition(".")
    try:
        target = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return []
    names: list[str] = []
    for cls in target.__mro__ if inspect.isclass(target) else [target]:
        function = cls.__dict__.get("__init__", cls if not inspect.isclass(cls) else None)
        if function is None:
            continue
        parameters = inspect.signature(function).parameters.values()
        names += [
            p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"
        ]
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return names


def readable(message: str, keys: Iterable[str]) -> str:
    """Turn jsonargparse's explanation into one message.

    Args:
        message: What jsonargparse says.
        keys: The parser's own top-level keys.

    Returns:
        One line where the phrases are known; else the message without the noise about Unions.
    """
    if match := re.search(r"[Uu]nrecognized arguments?: (.+)", message):
        return _unknown(match[1].split()[0].split("=")[0].lstrip("-"), keys)
    if match := re.search(r"File does not exist: '?([^'\n]+)'?", message) or re.search(
        r"Path does not exist: '?([^'\n]+)'?", message
    ):
        return _missing_file(match[1])
    lines = [line.strip(" -") for line in message.splitlines()]
    path, class_path, leaf = _descend([line for line in lines if line and not line.startswith(_NOISE)])
    where = ".".join(path)
    if match := _OPTION.search(leaf):
        known = accepted_arguments(class_path) if class_path else list(keys)
        *parents, last = match["key"].split(".")
        owner = f"{class_path.rpartition('.')[2]} has no argument" if class_path else "unknown key"
        return (
            f"{'.'.join([where, *parents]).strip('.') or 'command line'}: {owner} {last!r}.{did_you_mean(last, known)}"
        )
    if match := re.search(r"Expected a dot import path string: (\S+)", leaf):
        return _unknown_class(where, match[1])
    if match := _VALUE.search(leaf):
        return _wrong_type(where, match["type"], match["value"] or _given(message))
    if match := re.search(r'Key "?([\w.]+)"? is required', message):
        return f"{match[1]}: it is required and missing; name a config with --config configs/... or give --{match[1]}."
    return f"{where}: {leaf}" if where and leaf else message


def _descend(lines: list[str]) -> tuple[list[str], str, str]:
    """Follow the tree of an explanation to its first leaf: (path of keys, innermost class, leaf)."""
    path: list[str] = []
    class_path = ""
    for line in lines:
        if key := _KEY.match(line):
            inner = key["key"]
            path.append(inner if not path or class_path == "" else f"init_args.{inner}")
            line = line[key.end() :].strip()
        if cls := _CLASS.search(line):
            class_path = cls["path"]
            line = line[cls.end() :].strip(" :")
        if line and line != "Expected a <class 'NoneType'>":
            return path, class_path, line
    return path, class_path, lines[-1] if lines else ""


def _given(message: str) -> str:
    match = re.search(r"Given value: (.+)", message)
    nested = re.search(r"val='?(.*?)'?\)$", match[1]) if match else None
    return nested[1] if nested else (match[1] if match else "")


def _wrong_type(where: str, expected: str, value: str) -> str:
    expected = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", expected).removesuffix(".")
    return f"{where}: expected {expected}, got {value!r}." if value else f"{where}: expected {expected}."


def _unknown(key: str, known: Iterable[str]) -> str:
    names = list(known)
    return f"{key}: unknown option.{did_you_mean(key, names)}"


def _unknown_class(where: str, name: str) -> str:
    short = name.rpartition(".")[2]
    known = {**{entry: entry for entry in index()}, **_torch_names(where)}
    hint = did_you_mean(short, known) or " `python cli.py list` shows the names; your own class needs its import path."
    if "." in name and full_path(short) == name:
        hint = ""
    return f"{where}: unknown class {name!r}.{hint}"


def _torch_names(where: str) -> dict[str, str]:
    """Optimizers and schedulers of torch, where one of them is asked for."""
    import torch

    names: list[str] = []
    if "optimizer" in where:
        names = [n for n, c in vars(torch.optim).items() if inspect.isclass(c)]
    if "scheduler" in where:
        names = [n for n, c in vars(torch.optim.lr_scheduler).items() if inspect.isclass(c)]
    return {name: name for name in names if not name.startswith("_")}


def _missing_file(name: str) -> str:
    path = Path(name)
    siblings = [str(file) for file in path.parent.glob("*")] if path.parent.is_dir() else []
    if not siblings:
        siblings = [str(file) for file in Path("configs").rglob("*.yaml")]
    by_name = {Path(sibling).name: sibling for sibling in siblings}
    close = difflib.get_close_matches(path.name, by_name, n=1, cutoff=0.5)
    hint = f" Did you mean {_short(by_name[close[0]])!r}?" if close else ""
    return f"config: no such file: {_short(name)!r}.{hint}"


def _short(path: str) -> str:
    """Relative to the working directory where it lies below it."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return path
