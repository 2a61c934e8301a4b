"""Readable errors: one message with the key's path, what is wrong, and what was perhaps meant.

jsonargparse explains a failed parse as a tree: which key, which class, which branch of which Union. The reader needs
the leaf and the path to it. The tree is read by its stable phrases; a message without them stays as it is.
"""

import dataclasses
import difflib
import importlib
import inspect
import os
import re
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from toolkit.allow_list import PACKAGES, is_allowed
from toolkit.commands.index import full_path, index
from toolkit.errors import UserError

_KEY = re.compile(r'Parser key "(?P<key>[^"]+)":?')
_CLASS = re.compile(r"Problem with given class_path '(?P<path>[^']+)'")
_OPTION = re.compile(r"(?:Option|Key) '(?P<key>[^']+)' is not (?:accepted|expected)")
_VALUE = re.compile(r"Expected an? (?P<type>.+?)(?:\. Got value: (?P<value>.*))?$")
_CALLABLE = re.compile(
    r"Type [^\n]+ expects a function or a callable class: (?P<inside>.*?)\. "
    r"Got value: Namespace\(class_path='(?P<path>[^']+)'[^\n]*",
    re.DOTALL,
)
"""What is said of an optimizer's or scheduler's arguments; its class comes last."""
_BASE = re.compile(r"Import path (?P<path>\S+ )?does not correspond to a subclass of (?P<base>Task|DataSource)\b")
_BASES = {"Task": "toolkit.task.Task", "DataSource": "datamodules.base.BaseDataModule"}
"""What a class of one's own is derived from."""
_INTERVAL = re.compile(r"`val_check_interval` \((.+?)\) must be less than .+? training batches \((.+?)\)")
_STOPPING = re.compile(r"Early stopping conditioned on metric `.+?` which is not available")
_NOISE = ("Does not validate against", "Subtypes:", "Errors:", "Given value", "Expected a path but")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A closing sentence with the nearest known word, or nothing.

    >>> did_you_mean("adamm", ["Adam", "SGD"])
    " Did you mean 'Adam'?"
    """
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


def user_error_behind(error: BaseException | None) -> UserError | None:
    """The `UserError` that started a chain of exceptions, if one did: it says best what is wrong."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def run_error(error: Exception) -> UserError | None:
    """What to write instead, where Lightning or torch find only in the run that an option is wrong; else None."""
    text = str(error)
    if match := _INTERVAL.search(text):
        given, batches = match.groups()
        return UserError(
            f"trainer.val_check_interval: got {given}, more than the {batches} batches of an epoch; write at most "
            f"{batches}, or add --trainer.check_val_every_n_epoch null to count batches on from epoch to epoch."
        )
    if match := _STOPPING.search(text):
        name, *known = re.findall(r"`([^`]+)`", text.replace("`EarlyStopping`", ""))
        return UserError(
            f"trainer.callbacks: EarlyStopping monitors {name!r}, which is not logged; write one of "
            f"{', '.join(known) or 'those that the task logs'}.{did_you_mean(name, known)}"
        )
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, ValueError) and frames and Path(frames[-1].filename).parent.parts[-2:] == ("torch", "optim"):
        part = "scheduler" if Path(frames[-1].filename).stem == "lr_scheduler" else "optimizer"
        return UserError(f"model.init_args.{part}: torch refuses its arguments: {text}; write another value.")
    return None


def _imported(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    if not is_allowed(class_path):
        return None
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None


def _is_dataclass(class_path: str) -> bool:
    """Dataclasses are written without ``init_args``."""
    return dataclasses.is_dataclass(_imported(class_path))


def accepted_arguments(class_path: str) -> list[str]:
    """Names of a class's constructor arguments; those of the bases too where it passes ``**kwargs`` on."""
    target = _imported(class_path)
    if target is None:
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


def readable(message: str, keys: Iterable[str], args: Sequence[str] = ()) -> str:
    """Turn jsonargparse's explanation into one message.

    Args:
        message: What jsonargparse says.
        keys: The parser's own top-level keys.
        args: The command line, which knows the whole key where the explanation gives its end only.

    Returns:
        One line where the phrases are known; else the message without the noise about Unions.
    """
    if match := re.search(r"[Uu]nrecognized arguments?: (.+)", message):
        key = match[1].split()[0].split("=")[0].lstrip("-")
        return f"{key}: unknown option.{did_you_mean(key, keys)}"
    if match := re.search(r"(?:File|Path) does not exist: '?([^'\n]+)'?", message):
        return _missing_file(match[1])
    message = _CALLABLE.sub(r"Problem with given class_path '\g<path>':\n\g<inside>", message)
    lines = [line.strip(" -") for line in message.splitlines()]
    path, class_path, leaves = _descend([line for line in lines if line and not line.startswith(_NOISE)])
    if match := re.search(r"arguments are required: (.+)", message):
        return _missing_arguments(".".join(path), match[1])
    where, leaf = ".".join(path), leaves[0]
    if match := _OPTION.search(leaf):
        *parents, last = match["key"].split(".")
        owner = _full_key(".".join([where, *parents]).strip("."), last, args)
        known = accepted_arguments(class_path) if class_path else list(keys)
        return f"{owner or 'config'}: unknown key {last!r}.{did_you_mean(last, known)}"
    where = _full_key("", where, args, keep_last=True) or where
    if match := re.search(r"Importing '([^']+)' is not allowed", message):
        return (
            f"{where}: {match[1]!r} is in no package that a config may name ({', '.join(PACKAGES)}, and those in the "
            f"working directory). If you trust it, add --allow {match[1].partition('.')[0]}."
        )
    if match := _BASE.search(message):
        own = (match["path"] or _given(message)).strip()
        return f"{where}: {own} is no subclass of {_BASES[match['base']]}; derive your class from that."
    if match := re.search(r"Expected a dot import path string: (\S+)", leaf):
        return _unknown_class(where, match[1])
    if match := _VALUE.search(leaf):
        expected = [found["type"] for found in map(_VALUE.search, leaves) if found]
        return _wrong_type(where, expected, match["value"] or _given(message))
    return f"{where}: {leaf}" if where and leaf else message


def _missing_arguments(owner: str, names: str) -> str:
    if not owner:
        return f"missing: {names}; name a config with --config configs/...yaml, or give --{names.split(',')[0]}."
    flag = f"{owner}.{names.split(',')[0]}".replace(".init_args", "")
    return f"{owner}: missing: {names}; give --{flag}."


def _full_key(owner: str, last: str, args: Sequence[str], keep_last: bool = False) -> str:
    """The key as the command line has it, where a message names only its last parts."""
    for arg in args:
        option = arg.lstrip("-").partition("=")[0].rstrip("+")
        if arg.startswith("--") and f".{option}".endswith(f".{last}") and not owner:
            return option if keep_last else option.removesuffix(last).rstrip(".")
    return owner


def _descend(lines: list[str]) -> tuple[list[str], str, list[str]]:
    """Follow the tree of an explanation to its first leaves: (path of keys, innermost class, alternatives)."""
    path: list[str] = []
    class_path = ""
    leaves: list[str] = []
    for line in lines:
        if leaves and not line.startswith("Expected a"):
            break
        if key := _KEY.match(line):
            inside = "init_args." if class_path and not _is_dataclass(class_path) else ""
            path.append(f"{inside}{key['key']}")
            line = line[key.end() :].strip()
        if cls := _CLASS.search(line):
            class_path = cls["path"]
            line = line[cls.end() :].strip(" :")
        if line and line != "Expected a <class 'NoneType'>":
            leaves.append(line)
    return path, class_path, leaves or lines[-1:] or [""]


def _given(message: str) -> str:
    match = re.search(r"Given value: (.+)", message)
    nested = re.search(r"val='?(.*?)'?\)$", match[1]) if match else None
    return nested[1] if nested else (match[1] if match else "")


def _wrong_type(where: str, expected: Sequence[str], value: str) -> str:
    expected = [kind for kind in expected if not kind.startswith("dot import path")]
    kinds = [re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", kind).removesuffix(".") for kind in expected]
    kinds = [re.sub(r"typing\.Literal\[(.+)\]", r"one of \1", kind) for kind in kinds]
    return f"{where}: expected {' or '.join(dict.fromkeys(kinds))}" + (f", got {value!r}." if value else ".")


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
        return str(Path(os.path.abspath(path)).relative_to(Path.cwd()))  # resolve() would follow links
    except ValueError:
        return path
