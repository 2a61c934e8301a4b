from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.nn.augmentation import Augmentation, RandomCrop
from toolkit.types import IGNORE_LABEL, ImageBatch, SemiSupervisedBatch
from toolkit.vision.fixmatch import FixMatch


class Pixels(nn.Module):
    """Logits are the first three pixels, times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(1)[:, :3] * self.scale


def plain() -> Augmentation:
    return Augmentation([])


def make(**options: Any) -> FixMatch:
    arguments = {"augment": plain(), "strong": plain(), "pixel_mean": [0.0], "pixel_std": [1.0], **options}
    return FixMatch(Pixels(), 3, **arguments)


def images(rows: list[list[float]], label: list[int]) -> ImageBatch:
    index = torch.arange(len(rows))
    return ImageBatch(torch.tensor(rows).view(-1, 1, 1, 3), torch.tensor(label), index, sample_keys(0, 0, index))


MANY = images([[9.0, 0.0, 0.0], [1.0, 0.9, 0.0], [0.0, 0.0, 8.0]], [IGNORE_LABEL] * 3)
FEW = images([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]], [1, 0])
ALL = torch.ones(3).bool()
BOTH = SemiSupervisedBatch(MANY, FEW, ALL)


def test_loss_by_hand() -> None:
    """Two of three unlabelled images are certain; the third counts 0, in a mean over all three."""
    loss = float(make(threshold=0.95, unlabelled_weight=0.5).step(BOTH, "train").loss.detach())
    supervised = F.cross_entropy(FEW.image.flatten(1), FEW.label)
    certain = F.cross_entropy(MANY.image.flatten(1)[[0, 2]], torch.tensor([0, 2]), reduction="sum") / 3
    assert loss == pytest.approx(float(supervised + 0.5 * certain), rel=1e-5)


def test_what_is_logged() -> None:
    task = make(threshold=0.95)
    task.step(BOTH, "train")
    found = {name.split("/")[-1]: float(value) for name, value in task.means("train").compute().items()}
    assert found["certain"] == pytest.approx(2 / 3)
    assert found["acc"] == 0.5
    assert found["consistency"] > 0


def test_unreadable_images_count_nowhere() -> None:
    """Neither the certain unlabelled one, black as it may be, nor the labelled one: all is as without them."""
    alone = SemiSupervisedBatch(*(ImageBatch(*(field[:2] for field in part)) for part in (MANY, FEW)), ALL[:2])
    unread = FEW._replace(
        **{name: torch.cat([value, value[:1]]) for name, value in FEW._asdict().items()},
    )
    unread.label[2] = IGNORE_LABEL
    both = SemiSupervisedBatch(MANY, unread, torch.tensor([True, True, False]))
    whole, part = make(threshold=0.5), make(threshold=0.5)
    torch.testing.assert_close(whole.step(both, "train").loss, part.step(alone, "train").loss)
    torch.testing.assert_close(whole.means("train").sums(), part.means("train").sums())


def test_no_image_is_certain_enough() -> None:
    task = make(threshold=1.0)
    torch.testing.assert_close(
        task.step(BOTH, "train").loss, F.cross_entropy(FEW.image.flatten(1), FEW.label), rtol=1e-6, atol=0
    )


def test_the_guess_gets_no_gradient() -> None:
    """The gradient is that of a loss whose labels are constants."""
    task = make(threshold=0.0)
    task.step(BOTH, "train").loss.backward()
    scale = torch.tensor(1.0, requires_grad=True)
    guess = MANY.image.flatten(1).argmax(dim=1)
    loss = F.cross_entropy(FEW.image.flatten(1) * scale, FEW.label)
    (loss + F.cross_entropy(MANY.image.flatten(1) * scale, guess)).backward()
    torch.testing.assert_close(task.net.scale.grad, scale.grad)


def test_both_augmentations_differ() -> None:
    """Were the strong view the weak one, its loss would be that of the weak."""
    many = MANY._replace(image=torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0)) * 4)
    crop = {"augment": Augmentation([RandomCrop(padding=3)]), "strong": Augmentation([RandomCrop(padding=3)])}
    few = images([[1.0, 2.0, 0.0]], [1])._replace(image=many.image[:1])
    task = make(threshold=0.0, **crop)
    loss = task.step(SemiSupervisedBatch(many, few, ALL), "train").loss
    weak = task.network_input(many, training=True)
    same = F.cross_entropy(task.net(weak), task.net(weak).argmax(dim=1))
    supervised = F.cross_entropy(task.net(task.network_input(few, training=True)), few.label)
    assert abs(float((loss - supervised - same).detach())) > 1e-3


def test_evaluation_is_a_classification() -> None:
    output = make().step(FEW, "val")
    torch.testing.assert_close(output.loss, F.cross_entropy(FEW.image.flatten(1), FEW.label))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "got 1.5 and 1.0"),
        ({"unlabelled_weight": -1.0}, "got 0.95 and -1.0"),
        ({"class_weights": [1.0, 1.0, 2.0]}, "does not take class_weights; leave it out"),
        ({"mix": nn.Identity()}, "does not take mix"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**options)


def test_no_strong_augmentation() -> None:
    with pytest.raises(UserError, match="needs a strong augmentation"):
        make(strong=None).step(BOTH, "train")


def test_labelled_data_alone() -> None:
    with pytest.raises(UserError, match="use SemiSupervisedDataModule"):
        make().step(FEW, "train")
