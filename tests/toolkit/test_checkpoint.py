import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import toolkit
from toolkit.checkpoint import find_checkpoint, load, read_checkpoint
from toolkit.errors import UserError
from toolkit.nn.pretrained import PretrainedNetwork, pretrained_enabled
from toolkit.vision.image_classification import ImageClassification

TASK = "toolkit.vision.image_classification.ImageClassification"


class Net(PretrainedNetwork):
    """Notes whether its constructor may fetch weights."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.may_download = pretrained_enabled()
        self.head = nn.Linear(width, 2)

    def load_pretrained(self) -> None:
        """Nothing to load."""


def content(**changes: Any) -> dict[str, Any]:
    """What a fit through the command line leaves, as far as loading goes."""
    torch.manual_seed(1)
    net = {"class_path": f"{__name__}.Net", "init_args": {"width": 5}}
    arguments = {
        "net": net, "num_classes": 2, "class_names": ["ant", "bee"], "_class_path": TASK,
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }  # fmt: skip
    weights = ImageClassification(Net(5), num_classes=2).state_dict()
    whole = {
        "state_dict": weights, "hyper_parameters": arguments, "hparams_name": "kwargs", "task": TASK,
        "pytorch-lightning_version": "2.6.6",
    }  # fmt: skip
    return whole | changes


def write(folder: Path, name: str = "a.ckpt", **changes: Any) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    torch.save(content(**changes), folder / name)
    return folder / name


# Which file -----------------------------------------------------------------------------------------------------------


def test_best_goes_before_last(tmp_path: Path) -> None:
    last = write(tmp_path, "checkpoints/last.ckpt")
    assert find_checkpoint(tmp_path) == last
    best = write(tmp_path, "checkpoints/best.ckpt")
    assert find_checkpoint(str(tmp_path)) == best
    assert find_checkpoint(last) == last


@pytest.mark.parametrize("address", ["http://example.com/a.ckpt", "s3://bucket/run", "file:///etc/passwd"])
@pytest.mark.parametrize("reader", [find_checkpoint, read_checkpoint, load])
def test_addresses_are_refused(reader: Any, address: str) -> None:
    with pytest.raises(UserError, match=f"only local files are read, got the address '{address}'"):
        reader(address)


@pytest.mark.parametrize("reader", [find_checkpoint, read_checkpoint, load])
def test_what_is_not_there_is_named(reader: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file or run folder: '.*nowhere\.ckpt'"):
        reader(tmp_path / "nowhere.ckpt")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match=r"holds no checkpoints/best\.ckpt or checkpoints/last\.ckpt"):
        reader(tmp_path)


# What is in it --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_damaged_file_is_refused(share: float, tmp_path: Path) -> None:
    """Cut off at any place, as by a full disk."""
    file = write(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"a\.ckpt': not readable as a checkpoint \(.+\)"):
        read_checkpoint(file)


class Payload:
    """Runs code while it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("how", ["torch.save", "pickle"])
def test_code_in_a_checkpoint_is_not_run(how: str, tmp_path: Path) -> None:
    file, target = tmp_path / "a.ckpt", tmp_path / "executed"
    if how == "torch.save":
        write(tmp_path, payload=Payload(target))
    else:
        file.write_bytes(pickle.dumps(content(payload=Payload(target))))
    for reader in (read_checkpoint, load):
        with pytest.raises(UserError, match="not readable as a checkpoint"):
            reader(file)
    assert not target.exists()
    torch.load(write(tmp_path, payload=Payload(target)), weights_only=False)
    assert target.exists()  # the payload is real


@pytest.mark.parametrize("other", [{"weights": torch.zeros(1)}, [1, 2], torch.zeros(2)], ids=["dict", "list", "tensor"])
def test_files_of_something_else_are_refused(other: Any, tmp_path: Path) -> None:
    torch.save(other, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="holds no 'state_dict', so it is no checkpoint of a task"):
        read_checkpoint(tmp_path / "a.ckpt")


# The task -------------------------------------------------------------------------------------------------------------


def test_load_gives_the_trained_task_ready_to_predict(tmp_path: Path) -> None:
    task = toolkit.load(write(tmp_path, "checkpoints/best.ckpt").parents[1])
    assert isinstance(task, ImageClassification)
    assert not task.training
    assert task.class_names == ["ant", "bee"]
    assert task.net.head.in_features == 5  # type: ignore[union-attr]
    for name, weight in content()["state_dict"].items():
        assert torch.equal(task.state_dict()[name], weight), name


def test_load_does_not_fetch_what_the_checkpoint_replaces(tmp_path: Path) -> None:
    assert Net().may_download
    assert not load(write(tmp_path)).net.may_download
    assert Net().may_download


@pytest.mark.parametrize(
    ("class_path", "message"),
    [
        (
            "nowhere.Task",
            r"the task nowhere\.Task, whose package is not allowed; if you trust it, run from the folder that holds it",
        ),
        ("toolkit.task.Tusk", r"toolkit\.task\.Tusk cannot be imported"),
        ("Task", "its task Task cannot be imported"),
        ("torch.nn.Linear", r"torch\.nn\.Linear is no task"),
        ("math.pi", r"math\.pi is no task"),
    ],
)
def test_a_task_that_cannot_be_built_is_named(class_path: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load(write(tmp_path, hyper_parameters={}, task=class_path))


def test_a_checkpoint_of_another_program_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="does not name its task, so it was not written by this toolkit"):
        load(tmp_path / "a.ckpt")


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    weights = content()["state_dict"]
    weights["net.head.extra"] = weights.pop("net.head.bias")
    with pytest.raises(UserError, match=r"2 tensors differ.*net\.head\.bias: missing in the checkpoint"):
        load(write(tmp_path, state_dict=weights))


def test_the_package_gives_load_and_nothing_else() -> None:
    assert toolkit.load is load
    with pytest.raises(AttributeError, match="'toolkit' has no attribute 'lode'"):
        toolkit.lode  # noqa: B018
