"""What is frozen stays bit-equal, statistics included: in a fit, over a kill, on two ranks; the rest trains."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from callbacks.ema import EMA
from callbacks.freeze import Freeze
from callbacks.frozen_audit import FrozenAudit
from callbacks.gradual_unfreezing import GradualUnfreezing
from cli import main
from tests import forked
from tests.conformance import digits
from tests.forked import quick_starts  # noqa: F401  # a fixture
from toolkit.errors import UserError
from toolkit.nn.backbone import Staged
from toolkit.nn.lora import LoRA
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.networks.dense import DenseNetwork
from toolkit.vision.networks.small_cnn import SmallCNN

pytestmark = pytest.mark.filterwarnings("ignore:Found .* in eval mode")  # which is what is meant here

QUICK = ["--trainer.accelerator=cpu", "--wandb.enabled=false"]
DIGITS = ["--model=ImageClassification", "--model.net=SmallCNN", "--data=DigitsDataModule", *QUICK]


class Body(nn.Module, Staged):
    """Two stages with BatchNorm and dropout, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.body = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)), nn.Flatten())
        self.head = nn.Linear(64, 10)

    def stages(self) -> list[list[nn.Module]]:
        return [[self.stem], [self.body], [self.head]]

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self.stem(image)))
        return logits


def fit(task: ImageClassification, *callbacks: Any, **options: Any) -> Trainer:
    """With validations in between, which change modules' modes."""
    options = {"max_epochs": 2, "limit_train_batches": 4, "val_check_interval": 2, "limit_val_batches": 1} | options
    trainer = Trainer(accelerator="cpu", callbacks=list(callbacks), logger=False, enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False, **options)  # fmt: skip
    trainer.fit(task, datamodule=digits())
    return trainer


def moved(before: dict[str, Tensor], net: nn.Module) -> set[str]:
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


def copied(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


BODY = {f"body.0.{n}" for n in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked")}  # fmt: skip
HEAD = {"head.weight", "head.bias"}
STEM = {name.replace("body.0", "stem") for name in BODY}


@pytest.mark.parametrize(
    ("freeze", "moves"),
    [
        (Freeze(stages=-1), HEAD),
        (Freeze(stages=1, norm_only=True), STEM - {n for n in STEM if ".1." in n} | BODY | HEAD),
        (Freeze(names=["body"]), STEM | HEAD),
        (Freeze(names=["stem.0", "body.0.1"]), STEM | BODY | HEAD - {"stem.0.weight", "stem.0.bias"}),
    ],
    ids=["all but the head", "norms of a stage", "a part", "single layers"],
)
def test_what_is_frozen_stays_and_the_rest_trains(freeze: Freeze, moves: set[str]) -> None:
    moves = moves - {n for n in moves if n.startswith(tuple(freeze.names))} if freeze.names else moves
    task = ImageClassification(Body(), 10, optimizer=lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5))
    before = copied(task.net)
    trainer = fit(task, EMA(0.5), freeze, FrozenAudit())
    assert moved(before, task.net) == moves
    (group,) = trainer.optimizers[0].param_groups
    assert all(parameter.requires_grad for parameter in group["params"])


@pytest.mark.parametrize("first", [True, False])
def test_what_is_frozen_does_not_thaw_by_schedule(first: bool) -> None:
    """Whichever callback stands first."""
    callbacks = [Freeze(names=["stem"]), GradualUnfreezing({0: 1, 1: -1})]
    task = ImageClassification(Body(), 10)
    before = copied(task.net)
    fit(task, *(callbacks if first else callbacks[::-1]), FrozenAudit(), max_epochs=3)
    assert not any(name.startswith("stem") for name in moved(before, task.net))
    assert any(name.startswith("body") for name in moved(before, task.net))
    assert task.net.get_submodule("body").training


def test_a_norm_without_scales_rests_too() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 10))
    task = ImageClassification(net, 10)
    before = copied(net)
    fit(task, Freeze(stages=-1, norm_only=True), max_epochs=1)
    assert moved(before, net) == {"1.weight", "1.bias", "3.weight", "3.bias"}
    with pytest.raises(UserError, match="there is no BatchNorm in these parts"):
        fit(ImageClassification(nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Linear(10, 10)), 10),
            Freeze(stages=-1, norm_only=True))  # fmt: skip


def test_frozen_parts_compute_as_in_evaluation_whatever_mode_is_asked_for() -> None:
    task = ImageClassification(Body(), 10)
    task.net.stem.requires_grad_(False)
    task.rest_frozen()
    for _ in range(2):
        modes = {name: module.training for name, module in task.net.named_modules() if name in ("stem.1", "stem.2", "body.0.1", "head")}  # fmt: skip
        assert modes == {"stem.1": False, "stem.2": False, "body.0.1": True, "head": True}
        task.eval()
        task.train()


class Places(DenseNetwork):
    """A new part over a backbone."""

    def __init__(self) -> None:
        super().__init__(SmallCNN(in_channels=1, num_classes=1, widths=(4, 8)), strides=[2])
        self.neck = nn.Linear(self.maps.widths[0], 10)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.neck(self.maps(image)[0].mean(dim=(2, 3)))
        return logits


@pytest.mark.parametrize("lora", [None, LoRA(rank=2)])
def test_the_backbone_of_a_network_that_answers_for_places(lora: LoRA | None) -> None:
    task = ImageClassification(Places(), 10, lora=lora)
    before = copied(task.net)
    fit(task, FrozenAudit(), *([] if lora else [Freeze(stages=-1)]), max_epochs=1)
    changed = moved(before, task.net)
    assert {name for name in changed if "lora_" not in name} == {"neck.weight", "neck.bias"}
    assert any("lora_" in name for name in changed) == (lora is not None)


@pytest.mark.usefixtures("quick_starts")
@pytest.mark.parametrize(
    "what", [["--trainer.callbacks+=Freeze", "--trainer.callbacks.stages=1"], ["--model.lora.rank=2"]]
)
def test_killed_and_resumed(what: list[str], workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `verify-resume` compares: each step's loss and weights. The audit holds the resumed run to the hashes."""
    (workdir / "config.yaml").write_text("{}\n")
    words = ["--config=config.yaml", *DIGITS, *what, "--model.layer_decay=0.5", "--trainer.callbacks+=FrozenAudit"]
    assert main(["verify-resume", *words, "--steps=14", "--kill_after=8"]), capsys.readouterr().out


def test_a_frozen_backbone_after_a_resume_and_on_two_ranks(workdir: Path) -> None:
    """Bit-equal to the run that it was taken from."""
    short = ["--trainer.limit_train_batches=3", "--trainer.max_epochs=1"]
    source = main(["fit", *DIGITS, *short]).run_folder
    taken = [*("fit", *DIGITS, "--trainer.limit_train_batches=3", "--trainer.callbacks+=PretrainedBackbone")]
    taken += [
        f"--trainer.callbacks.checkpoint={source}",
        "--trainer.callbacks+=Freeze",
        "--trainer.callbacks.stages=-1",
    ]
    taken += ["--trainer.callbacks+=FrozenAudit"]
    cut = main([*taken, "--trainer.max_epochs=1"]).run_folder
    main(["resume", str(cut), "--trainer.max_epochs=2"])
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=1", "--runs=two"]
    done = forked.run([*taken, *two], cwd=workdir, ranks=2)
    assert done.returncode == 0, done.stderr
    (ranks,) = Path("two").glob("*/*/")
    states = [torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
              for run, name in ((source, "best"), (cut, "last"), (ranks, "last"))]  # fmt: skip
    for name, value in states[0].items():
        if name.startswith("net."):
            stays = [torch.equal(state[name], value) for state in states[1:]]
            assert stays == [not name.startswith("net.head.")] * 2, name


def test_mistakes() -> None:
    with pytest.raises(UserError, match="says nothing to freeze"):
        Freeze()
    for stages in (3, -3):
        with pytest.raises(UserError, match=r"need a number from -2 to 2, for of the 3 stages of Body one must train"):
            fit(ImageClassification(Body(), 10), Freeze(stages=stages))
    with pytest.raises(UserError, match=r"Body has no part 'neck', but stem, stem.0"):
        fit(ImageClassification(Body(), 10), Freeze(names=["neck"]))
    with pytest.raises(UserError, match="nothing to train"):
        fit(ImageClassification(Body(), 10), Freeze(names=["stem", "body", "head"]))
