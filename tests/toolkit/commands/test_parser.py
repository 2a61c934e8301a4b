from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # not in its __all__
from torch import nn

from toolkit.allow_list import allow, enforce
from toolkit.commands.messages import user_error_behind
from toolkit.commands.parser import ToolkitParser, expand_arguments, explicit_keys, take_option
from toolkit.errors import UserError

MLP_PATH = "toolkit.nn.mlp.MLP"


@pytest.fixture(autouse=True)
def _tests_are_allowed() -> None:
    """Whatever a test before has made of the list."""
    allow(["tests"])
    enforce()


class Sized(nn.Module):
    """Arguments that may be None."""

    def __init__(self, size: int | None = 3, label: str | None = "a", inner: nn.Module | None = None) -> None:
        super().__init__()
        if size == 13:
            raise UserError("size: 13 brings bad luck; write 12.")
        self.size, self.label, self.inner = size, label, inner


SIZED = f"{__name__}.Sized"


def parsed(*words: str, instantiate: bool = False) -> Any:
    """As `ToolkitCLI` parses: a nested class, a config file and a plain option."""
    parser = ToolkitParser(prog="cli.py fit", exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_argument("--n", type=int, default=0)
    parser.add_subclass_arguments(nn.Module, "model", required=False)
    parser.words = words
    namespace = parser.parse_args(expand_arguments(words))
    return parser.instantiate_classes(namespace) if instantiate else namespace


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")


# Short names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model=MLP"], [f"--model={MLP_PATH}"]),
        (["--model", "MLP", "--model.dropout=0"], ["--model", MLP_PATH, "--model.dropout=0"]),
        (["--model=mine.MLP"], ["--model=mine.MLP"]),
        (["--model=NotThere"], ["--model=NotThere"]),
        (["--data.root=data/MLP"], ["--data.root=data/MLP"]),
        (["--model.text=a=MLP"], ["--model.text=a=MLP"]),
        (["--name", "MLP", "--model", "MLP"], ["--name", "MLP", "--model", MLP_PATH]),
        (["--name=MLP", "--wandb.project=ViT"], ["--name=MLP", "--wandb.project=ViT"]),  # text that is no class
        (["--trainer.callbacks+=RunSummary"], ["--trainer.callbacks+=callbacks.summary.RunSummary"]),
        ([], []),
    ],
)
def test_a_value_that_is_a_short_name_becomes_the_path(words: list[str], expected: list[str]) -> None:
    assert expand_arguments(words) == expected


def test_short_names_in_a_config_at_any_depth(tmp_path: Path) -> None:
    config = {"model": {"class_path": SIZED, "init_args": {"inner": {"class_path": "MLP", "init_args": {"num_classes": 3, "in_channels": 1, "image_size": [4, 4]}}}}}  # fmt: skip
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(config))
    inner = parsed(f"--config={tmp_path / 'a.yaml'}").model.init_args.inner
    assert inner.class_path == MLP_PATH


def test_a_users_own_class_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    """Only whole values are short names: a path that ends in one is a path."""
    (tmp_path / "a.yaml").write_text(f"model: {{class_path: {SIZED}, init_args: {{label: MLP}}}}")
    assert parsed(f"--config={tmp_path / 'a.yaml'}").model.init_args.label == "MLP"


# Parsing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["--model.size=null", "--model.init_args.size=null"])
def test_null_reaches_a_nested_class_as_none(word: str) -> None:
    assert parsed(f"--model={SIZED}", word, instantiate=True).model.size is None
    assert parsed(f"--model={SIZED}", instantiate=True).model.size == 3


def test_a_null_two_classes_deep() -> None:
    words = [f"--model={SIZED}", f"--model.inner={SIZED}", "--model.inner.size=null", "--model.inner.label=b"]
    inner = parsed(*words, instantiate=True).model.inner
    assert (inner.size, inner.label) == (None, "b")


def test_later_words_and_configs_win(tmp_path: Path) -> None:
    for name, size in (("a", 5), ("b", 6)):
        (tmp_path / f"{name}.yaml").write_text(f"model: {{class_path: {SIZED}, init_args: {{size: {size}}}}}")
    configs = [f"--config={tmp_path / 'a.yaml'}", f"--config={tmp_path / 'b.yaml'}"]
    assert parsed(*configs).model.init_args.size == 6
    assert parsed(*configs, "--model.size=7").model.init_args.size == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--n=x"], "n: expected int, got 'x'."),
        (["--model", "MLPP"], "model: unknown class 'MLPP'. Did you mean 'MLP'?"),
        (["--m=1"], "m: unknown option. Did you mean 'n'?"),
        (["--conf=a.yaml"], "conf: unknown option. Did you mean 'config'?"),
    ],
)  # fmt: skip
def test_an_error_is_one_message(words: list[str], message: str) -> None:
    if words == ["--m=1"]:
        message = message.removesuffix(" Did you mean 'n'?")  # nothing is near a single letter
    with pytest.raises(UserError) as error:
        parsed(*words)
    assert str(error.value) == message


def test_a_user_error_of_a_constructor_is_found_behind_jsonargparses() -> None:
    with pytest.raises(ValueError, match="Does not validate") as error:
        parsed(f"--model={SIZED}", "--model.size=13", instantiate=True)
    cause = user_error_behind(error.value)
    assert str(cause) == "size: 13 brings bad luck; write 12."
    with pytest.raises(UserError, match="13 brings bad luck"):
        ToolkitParser(exit_on_error=False).error("noise", error.value)


# Words of the command line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "values", "rest"),
    [
        (["--input", "a", "b", "--x", "1"], ["a", "b"], ["--x", "1"]),
        (["--x", "1", "--input=a", "b"], ["a"], ["--x", "1", "b"]),
        (["--input", "a", "--x=1", "--input", "b"], ["a", "b"], ["--x=1"]),
        (["--input", "-1", "-", "-x", "3"], ["-1", "-"], ["-x", "3"]),  # numbers and the dash are values
        (["--inputs", "a"], [], ["--inputs", "a"]),
        (["--input="], [""], []),
        (["--input"], [], []),
    ],
)
def test_take_option(words: list[str], values: list[str], rest: list[str]) -> None:
    assert take_option(words, "input") == (values, rest)


@pytest.mark.parametrize(
    "words", [["--config={a}", "--config={b}"], ["--config", "{a}", "{b}"], ["-c", "{a}", "-c", "{b}"]]
)
def test_explicit_keys_of_words_and_all_configs(words: list[str], tmp_path: Path) -> None:
    """`-c` is Lightning's short form of `--config`."""
    (tmp_path / "a.yaml").write_text("model: {class_path: X, init_args: {net: {init_args: {width: 3}}, names: [a, b]}}")
    (tmp_path / "b.yaml").write_text("data: {init_args: {root: null}}")
    files = {"a": str(tmp_path / "a.yaml"), "b": str(tmp_path / "b.yaml")}
    keys = explicit_keys([*(word.format(**files) for word in words), "--model.net.init_args.depth=2", "--n", "1"])
    assert keys >= {"model.net.width", "model.names", "data.root", "model.net.depth", "n"}
    assert "model.width" not in keys
    assert not any("init_args." in key for key in keys)


def test_explicit_keys_leaves_missing_files_to_the_parser_and_names_bad_ones(tmp_path: Path) -> None:
    assert explicit_keys(["--config", str(tmp_path / "nowhere.yaml")]) == {"config"}
    (tmp_path / "bad.yaml").write_text("model: [")
    with pytest.raises(UserError, match=r"config '.*bad\.yaml' is not YAML: "):
        explicit_keys(["--config", str(tmp_path / "bad.yaml")])
    (tmp_path / "list.yaml").write_text("[1, 2]")
    assert explicit_keys([f"--config={tmp_path / 'list.yaml'}"]) == {"config"}
