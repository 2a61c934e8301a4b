import pytest
import torch
from torch import nn

from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.nn.augmentation import Augmentation, RandomCrop
from toolkit.selfsupervised.byol import BYOL
from toolkit.selfsupervised.simclr import SimCLR
from toolkit.selfsupervised.two_views import TwoViews
from toolkit.selfsupervised.vicreg import VICReg
from toolkit.types import IGNORE_LABEL, ImageBatch
from toolkit.vision.networks.small_cnn import SmallCNN

TASKS: list[type[TwoViews]] = [SimCLR, VICReg, BYOL]
everyone = pytest.mark.parametrize("kind", TASKS, ids=lambda cls: cls.__name__)


def make(kind: type[TwoViews], **options: object) -> TwoViews:
    augment = Augmentation([RandomCrop(padding=2)])
    return kind(SmallCNN(in_channels=1, num_classes=3), projection=(8, 4), augment=augment, **options)  # type: ignore[call-arg]


def batch(n: int, unreadable: int = 0) -> ImageBatch:
    label = torch.zeros(n, dtype=torch.int64)
    label[n - unreadable :] = IGNORE_LABEL
    image = torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return ImageBatch(image, label, torch.arange(n), sample_keys(0, 0, torch.arange(n)))


def test_views_differ_and_belong_to_the_sample_alone() -> None:
    task = make(SimCLR)
    whole, part = task.views(batch(6)).image, task.views(ImageBatch(*(field[2:4] for field in batch(6)))).image
    first, second = whole.split(6)
    assert not torch.equal(first, second)
    torch.testing.assert_close(part, torch.cat([first[2:4], second[2:4]]), rtol=0, atol=0)
    torch.testing.assert_close(task.views(batch(6)).image, whole, rtol=0, atol=0)


def test_unreadable_images_have_no_views() -> None:
    views = make(SimCLR).views(batch(6, unreadable=2))
    torch.testing.assert_close(views.image, make(SimCLR).views(batch(4)).image, rtol=0, atol=0)


@everyone
@pytest.mark.parametrize("unreadable", [0, 4])
def test_a_batch_of_one_is_refused(kind: type[TwoViews], unreadable: int) -> None:
    task = make(kind)
    with pytest.raises(
        UserError, match=rf"batch_size: a step of {kind.__name__} needs 2 or more readable images.*got 1"
    ):
        task.step(batch(1 + unreadable, unreadable), "train")


@everyone
def test_a_last_evaluation_batch_of_one_or_none_goes_through(kind: type[TwoViews]) -> None:
    task = make(kind).eval()
    for n, unreadable in ((1, 0), (2, 2), (5, 0)):
        assert torch.isfinite(task.step(batch(n, unreadable), "val").loss)
    assert torch.isfinite(torch.tensor(list(task.means("val").compute().values()))).all()


@everyone
def test_everything_but_the_head_and_the_target_learns(kind: type[TwoViews]) -> None:
    task = make(kind)
    task.step(batch(8), "train").loss.backward()
    without = {name for name, parameter in task.named_parameters() if parameter.grad is None}
    assert all("target." in name or name.startswith("net.backbone.head.") for name in without)
    assert all(not task.get_parameter(name).requires_grad for name in without)
    assert {"net.backbone.head.weight", "net.backbone.head.bias"} <= without


@everyone
def test_a_network_without_features_is_refused(kind: type[TwoViews]) -> None:
    with pytest.raises(UserError, match="Linear has no forward_features followed by a linear layer named head"):
        kind(nn.Linear(2, 2))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make(SimCLR, temperature=0.0), "temperature: need a number above 0, got 0.0"),
        (lambda: make(VICReg, covariance=-1.0), "of 0 or more, got 25.0, 25.0 and -1.0"),
        (lambda: make(BYOL, momentum=1.5), r"in \[0, 1\], got 1.5 and 1.0"),
        (lambda: make(BYOL, final_momentum=-0.1), r"in \[0, 1\], got 0.99 and -0.1"),
        (lambda: SimCLR(SmallCNN(in_channels=1, num_classes=3), projection=[]), "widths of at least 1"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(build: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()  # type: ignore[operator]


def test_vicreg_logs_its_terms_and_weighs_them() -> None:
    task = make(VICReg, invariance=2.0, variance=3.0, covariance=5.0)
    loss = task.step(batch(8), "val").loss
    means = task.means("val").compute()
    weighed = 2 * means["invariance"] + 3 * means["variance"] + 5 * means["covariance"]
    torch.testing.assert_close(loss.detach().float(), weighed.float())
