from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.losses.dice import dice_loss
from toolkit.nn.augmentation import Augmentation, RandomHorizontalFlip
from toolkit.types import IGNORE_LABEL, SegmentationBatch, SegmentationPrediction, Stage
from toolkit.vision.semantic_segmentation import SemanticSegmentation

K = 4


class Pointwise(nn.Module):
    """A linear map of each pixel's colour; with an auxiliary head, that as well."""

    def __init__(self, auxiliary: bool = False) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, K, 1)
        self.auxiliary = nn.Conv2d(3, K, 1) if auxiliary else None

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits: Tensor = self.head(image)
        return logits if self.auxiliary is None or not self.training else (logits, self.auxiliary(image))


def batch(size: int = 6, unlabelled: Sequence[int] = (), seed: int = 0) -> SegmentationBatch:
    draw = torch.Generator().manual_seed(seed)
    mask = torch.randint(K, (size, 5, 4), generator=draw)
    mask[0, :2] = IGNORE_LABEL
    mask[list(unlabelled)] = IGNORE_LABEL
    image = torch.randint(256, (size, 3, 5, 4), generator=draw).to(torch.uint8)
    index = torch.arange(size)
    return SegmentationBatch(image, mask, index, sample_keys(0, 0, index))


def task(net: nn.Module | None = None, **options: Any) -> SemanticSegmentation:
    return SemanticSegmentation(net or Pointwise(), K, **options).double()


def rows(samples: SegmentationBatch, some: slice) -> SegmentationBatch:
    return SegmentationBatch(*(field[some] for field in samples))


def test_loss_is_cross_entropy_and_dice_over_the_labelled_pixels() -> None:
    model, samples = task(cross_entropy_weight=0.7, dice_weight=0.3), batch()
    loss = model.step(samples, "train").loss
    logits = model._logits(model.network_input(samples, training=False)[0])[0]
    cross_entropy = F.cross_entropy(logits, samples.mask, ignore_index=IGNORE_LABEL)
    pixels = (samples.mask >= 0).sum(dim=(1, 2))
    dice = (dice_loss(logits.softmax(dim=1), samples.mask) * pixels).sum() / pixels.sum()
    torch.testing.assert_close(loss, 0.7 * cross_entropy + 0.3 * dice)
    means = {name: value.item() for name, value in model.means("train").compute().items()}
    assert means == pytest.approx(
        {"loss": loss.item(), "cross_entropy": cross_entropy.item(), "dice_loss": dice.item()}
    )


def test_without_ignored_pixels_dice_is_the_mean_over_images() -> None:
    model, samples = task(cross_entropy_weight=0.0), batch()
    samples = samples._replace(mask=samples.mask.clamp(min=0))
    logits = model._logits(model.network_input(samples, training=False)[0])[0]
    torch.testing.assert_close(model.step(samples, "train").loss, dice_loss(logits.softmax(1), samples.mask).mean())


@pytest.mark.parametrize("options", [{}, {"class_weights": [1.0, 2.0, 3.0, 9.0]}, {"net": "auxiliary"}], ids=str)
def test_parts_of_a_batch_add_up(options: dict[str, Any]) -> None:
    """By their weights, gradients of unequal parts are those of the whole."""
    if "net" in options:
        options = {"net": Pointwise(auxiliary=True)}
    model, samples = task(**options), batch(unlabelled=[3])
    whole = model.step(samples, "train")
    parts = [model.step(rows(samples, slice(*bounds)), "train") for bounds in ((0, 1), (1, 4), (4, 6))]
    total = sum(part.weight for part in parts)
    torch.testing.assert_close(whole.weight, total)
    torch.testing.assert_close(whole.loss, sum(part.loss * part.weight for part in parts) / total)


def test_pixels_without_a_label_count_nowhere() -> None:
    model = task(class_weights=[1.0, 2.0, 3.0, 4.0])
    samples, nothing = batch(unlabelled=[2]), batch(unlabelled=range(6))
    other = samples._replace(image=samples.image.clone())
    other.image[2], other.image[0, :, :2] = 7, 7
    for stage in ("train", "val"):
        torch.testing.assert_close(model.step(samples, stage).loss, model.step(other, stage).loss)
    torch.testing.assert_close(model.metrics("val").compute()["val/miou"], _miou(model, [samples, other]))
    empty = model.step(nothing, "train")
    assert empty.loss == 0
    empty.loss.backward()
    assert all(p.grad is not None and not p.grad.isnan().any() for p in model.parameters())


def _miou(model: SemanticSegmentation, batches: Sequence[SegmentationBatch]) -> Tensor:
    ious = []
    with torch.no_grad():
        found = torch.cat([model.predict_step(samples, 0).mask for samples in batches])
    true = torch.cat([samples.mask for samples in batches])
    for k in range(K):
        a, b = (true == k), (found == k) & (true >= 0)
        if (a | b).any():
            ious.append((a & b).sum() / (a | b).sum())
    return torch.stack(ious).mean()


def test_evaluation_has_neither_class_weights_nor_the_auxiliary_head() -> None:
    net = Pointwise(auxiliary=True)
    plain, weighted = task(net), task(net, class_weights=[1.0, 2.0, 3.0, 9.0])
    samples = batch()
    assert plain.step(samples, "train").loss != weighted.step(samples, "train").loss
    torch.testing.assert_close(plain.eval().step(samples, "val").loss, weighted.eval().step(samples, "val").loss)


def test_predictions_are_the_likeliest_classes() -> None:
    model, samples = task().eval(), batch(unlabelled=[4])
    prediction = model.predict_step(samples, 0)
    assert isinstance(prediction, SegmentationPrediction)
    probability = model._logits(model.network_input(samples, training=False)[0])[0].softmax(dim=1)
    assert torch.equal(prediction.mask, probability.argmax(dim=1))
    torch.testing.assert_close(prediction.confidence[:4], probability.amax(dim=1).float()[:4])
    assert not prediction.confidence[4].any()  # nothing is known of it
    other = model.step(samples, "val").prediction
    assert all(torch.equal(a, b) for a, b in zip(prediction, other, strict=True))


@pytest.mark.parametrize(("stage", "moves"), [("train", True), ("val", False)])
def test_augmentation_moves_image_and_mask_in_training_only(stage: Stage, moves: bool) -> None:
    model, samples = task(augment=Augmentation([RandomHorizontalFlip(p=1.0)])), batch()
    image, mask = model.network_input(samples, stage == "train")
    assert torch.equal(mask, samples.mask.flip(2) if moves else samples.mask)
    raw = image * model.normalize.std[:, None, None] + model.normalize.mean[:, None, None]
    torch.testing.assert_close(
        raw * 255, (samples.image.flip(3) if moves else samples.image).double(), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ["a"]}, "class_names: need 4 entries, one a class, got 1"),
        ({"class_weights": [1.0]}, "class_weights: need 4 entries, one a class, got 1"),
        ({"dice_weight": -1.0}, "need weights of 0 or more"),
        ({"dice_weight": 0.0, "cross_entropy_weight": 0.0}, "one of cross_entropy_weight and dice_weight above 0"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        task(**options)


def test_a_network_that_answers_for_other_pixels_is_refused() -> None:
    with pytest.raises(UserError, match=r"must return \(6, 4, 5, 4\), one answer a pixel"):
        task(nn.Conv2d(3, K, 3)).step(batch(), "val")
