import itertools
import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from datamodules.digits import DigitsDataModule
from tests.conformance import views
from toolkit.selfsupervised.byol import BYOL
from toolkit.vision.networks.small_cnn import SmallCNN


def make(**options: Any) -> BYOL:
    return BYOL(SmallCNN(in_channels=1, num_classes=10), projection=(8, 4), augment=views(), **options)


def online(task: BYOL) -> dict[str, Tensor]:
    kept = task.net.state_dict()
    return {name: value.clone() for name, value in kept.items() if name.startswith(("backbone.", "projector."))}


def target(task: BYOL) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.net.target.state_dict().items()}


class Record(Callback):
    """Online and target networks before the first step and after each."""

    def __init__(self) -> None:
        self.rows: list[tuple[dict[str, Tensor], dict[str, Tensor], float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.rows.append((online(pl_module), target(pl_module), 0.0))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        self.rows.append((online(pl_module), target(pl_module), pl_module.target_momentum()))


def recorded(task: BYOL, **options: Any) -> list[tuple[dict[str, Tensor], dict[str, Tensor], float]]:
    record = Record()
    trainer = Trainer(max_steps=4, accelerator="cpu", callbacks=[record], logger=False, enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, **options)  # fmt: skip
    trainer.fit(task, datamodule=DigitsDataModule(batch_size=32))
    return record.rows


def test_target_begins_as_the_online_network() -> None:
    task = make()
    for (name, a), b in zip(online(task).items(), target(task).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)
    assert not any(parameter.requires_grad for parameter in task.net.target.parameters())


def test_target_moves_only_by_the_average() -> None:
    rows = recorded(make(momentum=0.9, final_momentum=None))
    assert len(rows) == 5
    parameters = {name for name, _ in make().net.target.named_parameters()}
    for (_, before, _), (now, after, momentum) in itertools.pairwise(rows):
        assert momentum == 0.9
        for name in parameters:
            torch.testing.assert_close(
                after[name], 0.9 * before[name] + 0.1 * now[name], rtol=1e-6, atol=1e-7, msg=name
            )
    moved = [name for name in parameters if not torch.equal(rows[0][1][name], rows[-1][1][name])]
    assert len(moved) == len(parameters) - 2  # all but the head, which nobody trains


def test_target_stands_still_at_momentum_one_and_follows_at_zero() -> None:
    parameters = {name for name, _ in make().net.target.named_parameters()}
    still = recorded(make(momentum=1.0))
    assert all(torch.equal(still[0][1][name], still[-1][1][name]) for name in parameters)
    follows = recorded(make(momentum=0.0, final_momentum=None))
    assert all(torch.equal(follows[-1][0][name], follows[-1][1][name]) for name in parameters)


def test_momentum_grows_along_a_cosine_to_its_final_value() -> None:
    momenta = [row[2] for row in recorded(make(momentum=0.5, final_momentum=0.9))[1:]]
    expected = [0.9 - 0.4 * (math.cos(math.pi * step / 4) + 1) / 2 for step in range(4)]
    assert momenta == pytest.approx(expected)


def test_accumulated_batches_move_the_target_once() -> None:
    rows = recorded(make(momentum=0.9, final_momentum=None), accumulate_grad_batches=2)
    changes = [
        not torch.equal(before[1]["projector.0.weight"], after[1]["projector.0.weight"])
        for before, after in itertools.pairwise(rows)
    ]
    assert changes == [False, True] * 4


def test_both_directions_count_alike() -> None:
    """Swapping the views of all samples changes nothing."""
    task = make().eval()
    image = torch.rand(6, 1, 8, 8)
    both, swapped = torch.cat([image[:3], image[3:]]), torch.cat([image[3:], image[:3]])
    losses = []
    for views_ in (both, swapped):
        prediction, projection = task.net.predict(views_), task.net.project_target(views_)
        losses.append(2 - 2 * torch.cosine_similarity(prediction, projection.roll(3, dims=0)).mean())
    torch.testing.assert_close(losses[0], losses[1])
