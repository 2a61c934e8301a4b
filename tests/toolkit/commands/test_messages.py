"""What jsonargparse really says, made readable: every case goes through the parser and not through a copied text."""

from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # not in its __all__
from torch import nn

from toolkit.commands.messages import accepted_arguments, did_you_mean, readable, user_error_behind
from toolkit.commands.parser import ToolkitParser, expand_arguments
from toolkit.errors import UserError
from toolkit.task import Task

MODEL = ["--model=ImageClassification", "--model.num_classes=3"]
NET = ["--model.net=SmallCNN", "--model.net.num_classes=3", "--model.net.in_channels=1"]


class Base(nn.Module):
    """Passes some of its arguments on."""

    def __init__(self, width: int, depth: int = 2) -> None:
        super().__init__()
        self.width, self.depth = width, depth


class Derived(Base):
    """Has one argument of its own."""

    def __init__(self, name: str, *, flag: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name, self.flag = name, flag


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")


def message(*words: str) -> str:
    """What a user reads."""
    parser = ToolkitParser(prog="cli.py fit", exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_subclass_arguments(Task, "model")
    parser.words = words
    with pytest.raises(UserError) as error:
        parser.parse_args(expand_arguments(words))
    return str(error.value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model.class_weights=[1,x]"], "model.init_args.class_weights: expected float, got 'x'."),
        (["--model.class_weights=3"], "model.init_args.class_weights: expected Sequence, got '3'."),
        (["--model.image_size=[3]"], "model.init_args.image_size: expected tuple with 2 elements, got '[3]'."),
        (["--model.test_time_flip=maybe"], "model.init_args.test_time_flip: expected bool, got 'maybe'."),
        (["--model.num_classes=1.5"], "model.init_args.num_classes: expected int, got '1.5'."),
        (["--model.net.widths=[1,x]"], "model.init_args.net.init_args.widths: expected int, got 'x'."),
        (["--model.scheduler_config.frequncy=3"], "model.init_args.scheduler_config: unknown key 'frequncy'. Did you mean 'frequency'?"),
        (["--model.scheduler_config.frequency=x"], "model.init_args.scheduler_config.frequency: expected int, got 'x'."),
        (["--model.mix=Mixup", "--model.mix.alpha=x"], "model.init_args.mix.init_args.alpha: expected float, got 'x'."),
        (["--model.mix=Mixup", "--model.mix.alfa=1"], "model.init_args.mix: unknown key 'alfa'. Did you mean 'alpha'?"),
    ],
)  # fmt: skip
def test_the_value_its_key_and_the_type(words: list[str], expected: str) -> None:
    assert message(*MODEL, *NET, *words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model.optimizer=SGD", "--model.optimizer.lr=fast"], "model.init_args.optimizer.init_args.lr: expected float, got 'fast'."),
        (["--model.optimizer={class_path: SGD, init_args: {lr: fast}}"], "model.init_args.optimizer.init_args.lr: expected float, got 'fast'."),
        (["--model.optimizer=MuonSGD", "--model.optimizer.momentum=x"], "model.init_args.optimizer.init_args.momentum: expected float, got 'x'."),
        (["--model.optimizer=SGD", "--model.optimizer.lrr=1"], "model.init_args.optimizer: unknown key 'lrr'. Did you mean 'lr'?"),
        (["--model.scheduler=WarmupCosine", "--model.scheduler.warmup=x"], "model.init_args.scheduler.init_args.warmup: expected int or float, got 'x'."),
        (["--model.scheduler=WarmupCosine", "--model.scheduler.warmp=1"], "model.init_args.scheduler: unknown key 'warmp'. Did you mean 'warmup'?"),
        (["--model.optimizer=RMSpropp"], "model.init_args.optimizer: unknown class 'RMSpropp'. Did you mean 'RMSprop'?"),
    ],
)  # fmt: skip
def test_arguments_of_optimizers_and_schedulers(words: list[str], expected: str) -> None:
    """jsonargparse describes these by the whole type of the callable."""
    assert message(*MODEL, *NET, *words) == expected


def test_a_transform_in_a_list() -> None:
    words = [*MODEL, *NET, "--model.augment=Augmentation"]
    assert message(*words, "--model.augment.transforms=[RandomHorizontalFlp]") == (
        "model.init_args.augment.init_args.transforms: unknown class 'RandomHorizontalFlp'. Did you mean 'RandomHorizontalFlip'?"
    )
    assert message(*words, "--model.augment.transforms=[{class_path: RandomCrop, init_args: {paddin: 3}}]") == (
        "model.init_args.augment.init_args.transforms: unknown key 'paddin'. Did you mean 'padding'?"
    )


def test_a_class_of_another_kind() -> None:
    found = message(*MODEL, *NET, "--model.augment=Mixup")
    assert found.startswith("model.init_args.augment: ")
    assert "subclass of Augmentation" in found
    assert "\n" not in found


def test_an_unknown_class_without_a_near_name_points_to_the_list() -> None:
    found = message(*MODEL, "--model.net=Qqqqqqq")
    assert found.startswith("model.init_args.net: unknown class 'Qqqqqqq'. `python cli.py list` shows the names")


def test_missing_arguments_are_named_with_the_flag_that_gives_them() -> None:
    assert message(*MODEL, "--model.net=SmallCNN", "--model.net.num_classes=3") == (
        "model.init_args.net: missing: in_channels; give --model.net.in_channels."
    )
    assert message("--model=ImageClassification", *NET).startswith(
        "model: missing: num_classes; give --model.num_classes"
    )


def test_the_same_mistakes_in_a_config(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "model: {class_path: ImageClassification, init_args: {num_classes: 3, net: {class_path: SmallCNN, init_args: "
        "{num_classes: ten, in_channels: 1}}}}"
    )
    assert message(f"--config={file}") == "model.init_args.net.init_args.num_classes: expected int, got 'ten'."
    file.write_text("modl: {class_path: ImageClassification}")
    assert message(f"--config={file}") == "modl: unknown key 'class_path'."


def test_a_missing_config_names_its_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.yaml").touch()
    (tmp_path / "other.yaml").touch()
    assert message("--config=digit.yaml") == "config: no such file: 'digit.yaml'. Did you mean 'digits.yaml'?"
    assert message("--config=zzzzzzzz") == "config: no such file: 'zzzzzzzz'."


# The parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("adamm", " Did you mean 'Adam'?"),
        ("ADAM", " Did you mean 'Adam'?"),
        ("sdg", " Did you mean 'SGD'?"),
        ("x", ""),
        ("", ""),
    ],
)
def test_did_you_mean_ignores_case_and_says_nothing_of_strangers(word: str, expected: str) -> None:
    assert did_you_mean(word, ["Adam", "SGD", "RMSprop"]) == expected


def test_did_you_mean_of_nothing_known() -> None:
    assert did_you_mean("adam", []) == ""


def test_accepted_arguments_follow_kwargs_to_the_bases() -> None:
    assert accepted_arguments(f"{__name__}.Derived") == ["name", "flag", "width", "depth"]
    assert accepted_arguments(f"{__name__}.Base") == ["width", "depth"]


@pytest.mark.parametrize("path", ["nowhere.Net", "toolkit.nn.mlp.MPL", "MLP", ""])
def test_accepted_arguments_of_what_cannot_be_imported(path: str) -> None:
    assert accepted_arguments(path) == []


def test_a_message_without_known_phrases_stays_as_it_is() -> None:
    assert readable("The disk is on fire.", ["model"]) == "The disk is on fire."


def test_the_user_error_behind_a_chain_is_found() -> None:
    def fail() -> None:
        try:
            try:
                raise UserError("the cause")
            except UserError as error:
                raise ValueError("wrapped") from error
        except ValueError:
            raise KeyError("while handling")  # noqa: B904  # an implicit context

    with pytest.raises(KeyError) as caught:
        fail()
    cause = user_error_behind(caught.value)
    assert str(cause) == "the cause"
    assert user_error_behind(ValueError("alone")) is None
    assert user_error_behind(None) is None
