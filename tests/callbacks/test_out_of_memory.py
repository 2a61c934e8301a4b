"""Memory runs out in the forward or the backward pass; the run ends with the weights of one that had enough."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cli import main
from tests.conftest import ROOT

ARGUMENTS = [
    "fit", "--allow=tests", "--model=ImageClassification", "--data=DigitsDataModule", "--data.batch_size=60",
    "--wandb.enabled=false",
    "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.precision=64-true", "--trainer.enable_progress_bar=false",
    "--trainer.log_every_n_steps=1", "--model.class_weights=[1,2,3,4,5,6,7,8,9,20]",
]  # fmt: skip
NET = "tests.callbacks.test_out_of_memory.Hungry"


class Fails(torch.autograd.Function):
    """Identity whose backward pass runs out of memory, after the layers behind it have added to their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate it all.")


class Hungry(nn.Module):
    """Two layers that have no room for more than ``most`` samples in training.

    Args:
        most: Samples that fit.
        after: Training batches before memory becomes scarce.
        backward: Whether it is the backward pass that fails.
        rank: Which process has too little.
    """

    def __init__(self, most: int = 1000, after: int = 0, backward: bool = False, num_classes: int = 10) -> None:
        super().__init__()
        self.most, self.after, self.backward = most, after, backward
        self.calls = 0
        self.first, self.second = nn.Linear(64, 32), nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.flatten(1)).relu()
        if self.training:
            self.calls += 1
            if len(x) > self.most and self.calls > self.after:
                if not self.backward:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate it all.")
                hidden = Fails.apply(hidden)  # type: ignore[no-untyped-call]
        logits: Tensor = self.second(hidden)
        return logits


def fit(folder: str, *options: str) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = main([*ARGUMENTS, f"--model.net={NET}", f"--runs={folder}", *options])
    return made, [str(warning.message) for warning in caught if "out of memory" in str(warning.message)]


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_the_run_ends_as_if_there_had_been_enough(backward: bool, accumulate: int, workdir: Path) -> None:
    options = [f"--trainer.accumulate_grad_batches={accumulate}"]
    whole, none = fit("whole", *options)
    scarce = ["--model.net.most=20", "--model.net.after=7", f"--model.net.backward={str(backward).lower()}"]
    parts, told = fit("parts", *options, *scarce)
    assert none == []
    assert [text.split("Each batch")[1] for text in told] == [
        " is computed in 2 parts of up to 30 from now on; the step is the same.",
        " is computed in 4 parts of up to 15 from now on; the step is the same.",
    ]
    assert parts.trainer.global_step == whole.trainer.global_step == 20 // accumulate
    for (name, a), b in zip(whole.model.state_dict().items(), parts.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=name)
    for metric in ("train/loss", "train/acc", "train/loss_epoch", "val/loss"):
        assert parts.trainer.callback_metrics[metric].item() == pytest.approx(
            whole.trainer.callback_metrics[metric].item(), rel=1e-6
        )


def test_a_resumed_run_begins_in_parts(workdir: Path) -> None:
    made, told = fit("runs", "--model.net.most=30")
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed = main(["resume", str(made.run_folder), "--allow=tests", "--trainer.max_epochs=2"])
    assert resumed.trainer.current_epoch == 2


def test_not_even_one_sample_fits(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        fit("runs", "--model.net.most=0")
    assert stopped.value.code == 2
    assert "in parts of one" in capsys.readouterr().err


def test_another_error_is_not_mistaken(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Hungry, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fit("runs")


@pytest.mark.slow
def test_several_ranks_end_and_go_on_when_resumed(tmp_path: Path) -> None:
    ranks = ["--trainer.devices=2", "--trainer.strategy=ddp", f"--model.net={NET}", f"--runs={tmp_path}"]
    command = [sys.executable, str(ROOT / "cli.py"), *ARGUMENTS, *ranks, "--model.net.most=15"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode != 0
    assert "is out of memory: CUDA out of memory. Tried to allocate it all.. Resume the run" in done.stderr
    (folder,) = tmp_path.glob("*/*/")
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), "resume", str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
