"""The command line's parser: jsonargparse with short class names of our own and errors that can be read."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from toolkit.commands.index import full_path
from toolkit.commands.messages import readable, user_error_behind
from toolkit.errors import UserError


def _expand(value: Any) -> Any:
    """Replace short names by import paths wherever a config names a class."""
    if isinstance(value, dict):
        return {key: _expand_item(key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item) for item in value]
    return value


_LISTS_OF_CLASSES = ("callbacks", "callbacks+", "logger", "plugins", "transforms")
"""Keys of lists whose texts are classes; elsewhere, as in ``wandb.tags``, they are text."""


def _expand_item(key: str, item: Any) -> Any:
    if key in ("class_path", "scheduler") and isinstance(item, str):
        return full_path(item)
    if key in _LISTS_OF_CLASSES and isinstance(item, list):
        return [full_path(one) if isinstance(one, str) else _expand(one) for one in item]
    return _expand(item)


_SECTIONS = ("model", "data", "trainer")
"""Where a word of the command line may be a class; elsewhere, as after ``--name``, it is text."""

_plain_load = get_loader("yaml")


def _load(text: str) -> Any:
    return _expand(_plain_load(text))


set_loader("yaml", _load, (yaml.YAMLError,))


class ToolkitParser(LightningArgumentParser):
    """LightningCLI's parser; an error becomes one `UserError`, and the toolkit's classes go by their short names."""

    words: Sequence[str] | None = None
    """The command line that is parsed; None in the parsers that jsonargparse makes for the arguments of a class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_args(self, args: Any = None, *more: Any, **kwargs: Any) -> Any:
        """Parse; a null that jsonargparse passes to a nested class arrives there as the word None, and is mended."""
        if self.words is None and args is not None:
            args = [f"{arg.removesuffix('None')}null" if arg.endswith("=None") else arg for arg in args]
        return super().parse_args(args, *more, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise one readable message instead of printing the usage and a tree of reasons."""
        if cause := user_error_behind(ex):
            raise cause
        if self.words is None:
            super().error(message, ex)
        keys = sorted({option.lstrip("-") for action in self._actions for option in action.option_strings})
        raise UserError(readable(message, keys, self.words)) from ex


def expand_arguments(args: Sequence[str]) -> list[str]:
    """Replace a value on the command line that is exactly a class's short name by its import path.

    >>> expand_arguments(["--model", "ImageClassification", "--data.batch_size=3"])
    ['--model', 'toolkit.vision.image_classification.ImageClassification', '--data.batch_size=3']
    """
    expanded = []
    section = ""
    for arg in args:
        option, equals, value = arg.partition("=")
        if arg.startswith("--"):
            section = option[2:].partition(".")[0].rstrip("+")
        if section not in _SECTIONS:
            expanded.append(arg)
        elif arg.startswith("--") and equals:
            expanded.append(f"{option}={full_path(value)}")
        else:
            expanded.append(full_path(arg))
    return expanded


def take_option(args: Sequence[str], name: str) -> tuple[list[str], list[str]]:
    """Take all values of ``--name VALUE [VALUE ...]`` or ``--name=VALUE`` out of a command line.

    Returns:
        (the values, the remaining arguments).

    >>> take_option(["--input", "a.png", "b.png", "--x", "1"], "input")
    (['a.png', 'b.png'], ['--x', '1'])
    """
    values: list[str] = []
    rest: list[str] = []
    taking = False
    for arg in args:
        if arg == f"--{name}":
            taking = True
        elif arg.startswith(f"--{name}="):
            values.append(arg.partition("=")[2])
            taking = False
        elif taking and not re.match(r"--?[A-Za-z]", arg):
            values.append(arg)
        else:
            taking = False
            rest.append(arg)
    return values, rest


def take_configs(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take all configs out of a command line.

    >>> take_configs(["-c", "a.yaml", "--config=b.yaml", "--x", "1"])
    (['a.yaml', 'b.yaml'], ['--x', '1'])
    """
    return take_option(["--config" if arg == "-c" else arg for arg in args], "config")


def stated(args: Sequence[str], name: str) -> str | None:
    """The value of ``--name``, else the last one that the configs give to ``name:``, without parsing all the others."""
    values, _ = take_option(args, name)
    contents = (_content(file) for file in take_configs(args)[0])
    values = values or [str(one[name]) for one in contents if isinstance(one, dict) and one.get(name) is not None]
    return values[-1] if values else None


def setting_of_configs(name: str, args: Sequence[str]) -> dict[str, Any]:
    """What the configs of a command line give to ``name:``, a later one over those before it."""
    given: dict[str, Any] = {}
    for file in take_configs(args)[0]:
        content = _content(file)
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            given |= content[name]
    return given


def run_name(args: Sequence[str]) -> str | None:
    """What a run is called: ``--name``, else ``name:`` of the configs, else the first config's file without ending.

    >>> run_name(["--config", "configs/vision/digits.yaml", "--name=wide"]), run_name(["-c", "digits.yaml"])
    ('wide', 'digits')
    """
    configs, _ = take_configs(args)
    return stated(args, "name") or (Path(configs[0]).stem if configs else None)


def explicit_keys(args: Sequence[str]) -> set[str]:
    """The keys that a command line and its configs set, dotted and without ``init_args``.

    >>> sorted(explicit_keys(["--model.net.init_args.width=3", "--model.lr", "1"]))
    ['model.lr', 'model.net.width']
    """
    keys = {arg[2:].partition("=")[0] for arg in args if arg.startswith("--")}
    for file in take_configs(args)[0]:
        keys |= set(_dotted(_content(file)))
    return {key.replace(".init_args", "") for key in keys}


def _content(file: str) -> Any:
    """What a config file holds; None where there is none, which the parser tells."""
    if not Path(file).is_file():
        return None
    try:
        return _plain_load(Path(file).read_text())
    except yaml.YAMLError as error:
        raise UserError(f"config {file!r} is not YAML: {' '.join(str(error).split())}.") from error


def _dotted(value: Any, prefix: str = "") -> Iterator[str]:
    for key, item in value.items() if isinstance(value, dict) else ():
        yield f"{prefix}{key}"
        yield from _dotted(item, f"{prefix}{key}.")
