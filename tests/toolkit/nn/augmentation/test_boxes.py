import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.nn.augmentation import (
    Augmentation,
    BoxTransform,
    ColorJitter,
    DetectionAugmentation,
    GaussianBlur,
    HorizontalBoxFlip,
    RandomAffine,
    RandomApply,
    RandomErasing,
    RandomHorizontalFlip,
    RandomZoom,
    VerticalBoxFlip,
)
from toolkit.types import IGNORE_LABEL, DetectionBatch

H, W = 24, 36


def batch_of(sizes: list[tuple[int, int]], boxes: list[list[list[int]]]) -> DetectionBatch:
    """Black images; of a box the label is its place in the list."""
    most = max(map(len, boxes))
    box, label = torch.zeros(len(boxes), most, 4), torch.full((len(boxes), most), IGNORE_LABEL)
    for row, some in enumerate(boxes):
        box[row, : len(some)] = torch.tensor(some, dtype=torch.float32).reshape(-1, 4)
        label[row, : len(some)] = torch.arange(len(some))
    size = torch.tensor(sizes)
    index = torch.arange(len(boxes))
    area = (box[:, :, 2:] - box[:, :, :2]).prod(dim=2)
    image = torch.zeros(len(boxes), 3, H, W, dtype=torch.uint8)
    return DetectionBatch(image, size, size, box, label, label > 1000, area, index, sample_keys(0, 0, index))


@st.composite
def filled(draw: st.DrawFn) -> DetectionBatch:
    """One image with one box, in which it is white."""
    height, width = draw(st.integers(4, H)), draw(st.integers(4, W))
    left, top = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
    right, bottom = draw(st.integers(left + 2, width)), draw(st.integers(top + 2, height))
    batch = batch_of([(height, width)], [[[left, top, right, bottom]]])
    batch.image[:, :, top:bottom, left:right] = 255
    return batch._replace(key=torch.tensor([draw(st.integers(-(2**62), 2**62))]))


def covered(batch: DetectionBatch) -> Tensor:
    """How much of each pixel lies in the box, ``(H, W)``."""
    left, top, right, bottom = batch.box[0, 0]
    x, y = (
        torch.minimum(torch.arange(n) + 1, high) - torch.maximum(torch.arange(n), low)
        for n, low, high in ((W, left, right), (H, top, bottom))
    )
    return y.clamp(0, 1)[:, None] * x.clamp(0, 1)


FLIPS = pytest.mark.parametrize("flip", [HorizontalBoxFlip, VerticalBoxFlip])


@FLIPS
@given(batch=filled())
@settings(max_examples=50, deadline=None)
def test_a_box_covers_the_same_pixels_after_a_flip(
    flip: type[HorizontalBoxFlip | VerticalBoxFlip], batch: DetectionBatch
) -> None:
    augmented = DetectionAugmentation([flip(p=0.7)])(batch)
    assert augmented.image.dtype == torch.uint8
    assert torch.equal(augmented.image[0, 0] / 255, covered(augmented))
    assert torch.equal(DetectionAugmentation([flip(p=1), flip(p=1)])(batch).image, batch.image)


@given(batch=filled())
@settings(max_examples=200, deadline=None)
def test_a_box_covers_the_same_pixels_after_a_zoom(batch: DetectionBatch) -> None:
    augmented = DetectionAugmentation([RandomZoom((0.6, 2.5), least_visible=0, fill=0)])(batch)
    height, width = batch.size[0].tolist()
    assert not augmented.image[:, :, height:].any()
    assert not augmented.image[:, :, :, width:].any()
    image = augmented.image[0, 0]
    if augmented.label[0, 0] == IGNORE_LABEL:
        assert image.sum() < 1 * max(height, width)  # but for what bilinear interpolation spreads
        return
    left, top, right, bottom = augmented.box[0, 0].tolist()
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    # Interpolation blurs by half a pixel of the image as it was, on both sides of an edge.
    blur = 0.5 * max(1, 2.5) + 0.5
    rows, columns = (torch.arange(n) + 0.5 for n in (H, W))

    def between(low: float, high: float, place: Tensor) -> Tensor:
        return (place > low) & (place < high)

    core = between(top + blur, bottom - blur, rows)[:, None] & between(left + blur, right - blur, columns)
    near = between(top - blur, bottom + blur, rows)[:, None] & between(left - blur, right + blur, columns)
    assert (image[core] > 0.99).all()
    assert (image[~near] < 0.01).all()


def test_the_mass_of_a_zoomed_box_is_where_the_box_is() -> None:
    batch = batch_of([(24, 36)] * 64, [[[9, 6, 21, 16]]] * 64)
    batch.image[:, :, 6:16, 9:21] = 255
    augmented = DetectionAugmentation([RandomZoom((0.7, 1.0), fill=0)])(batch)
    image, box = augmented.image[:, 0], augmented.box[:, 0]
    mass = image.sum(dim=(1, 2))
    assert torch.allclose(mass, (box[:, 2:] - box[:, :2]).prod(dim=1), rtol=0.05)
    assert torch.allclose(augmented.area[:, 0], (box[:, 2:] - box[:, :2]).prod(dim=1), rtol=1e-4)
    x = (image.sum(dim=1) * (torch.arange(W) + 0.5)).sum(dim=1) / mass
    y = (image.sum(dim=2) * (torch.arange(H) + 0.5)).sum(dim=1) / mass
    assert torch.allclose(torch.stack([x, y], 1), (box[:, :2] + box[:, 2:]) / 2, atol=0.3)  # not antialiased


def everything() -> DetectionAugmentation:
    jitter = Augmentation([ColorJitter(0.4, 0.4, 0.4), RandomApply(GaussianBlur(3))])
    return DetectionAugmentation([HorizontalBoxFlip(), RandomZoom((0.5, 3.0)), VerticalBoxFlip()], jitter)


def random_batch() -> DetectionBatch:
    batch = batch_of(
        [(24, 36), (24, 20), (10, 36), (24, 24)],
        [[[0, 0, 9, 9], [20, 10, 36, 24]], [[3, 3, 6, 9]], [], [[0, 0, 5, 5], [6, 6, 9, 9], [10, 10, 20, 20]]],
    )
    noise = torch.randint(256, batch.image.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for row, (height, width) in enumerate(batch.size.tolist()):
        batch.image[row, :, :height, :width] = noise[row, :, :height, :width]
    return batch


def test_a_sample_does_not_depend_on_its_batch() -> None:
    batch, augment = random_batch(), everything()
    whole = augment(batch)
    for row in range(4):
        single = augment(DetectionBatch(*(field[row : row + 1] for field in batch)))
        for name, a, b in zip(batch._fields, single, whole, strict=True):
            assert torch.allclose(a[0].float(), b[row].float(), atol=1e-6), name
    other = augment(batch._replace(key=batch.key + 1))
    assert not torch.equal(other.image, whole.image)


def test_the_contract_of_a_batch_holds_afterwards() -> None:
    batch = random_batch()
    for epoch in range(20):
        augmented = everything()(batch._replace(key=sample_keys(0, epoch, batch.index)))
        real = augmented.label != IGNORE_LABEL
        assert (real.long().diff(dim=1) <= 0).all()  # padding stands behind
        assert not augmented.box[~real].any()
        assert not augmented.area[~real].any()
        assert (augmented.box[real][:, 2:] > augmented.box[real][:, :2]).all()
        assert augmented.image.min() >= 0
        assert augmented.image.max() <= 1 + 1e-6
        for image, (height, width) in zip(augmented.image, batch.size.tolist(), strict=True):
            assert not image[:, height:].any()
            assert not image[:, :, width:].any()


def test_boxes_of_which_little_remains_are_dropped_but_crowds_stay() -> None:
    batch = batch_of([(24, 36)] * 50, [[[0, 0, 6, 6], [12, 8, 24, 16], [30, 18, 36, 24]]] * 50)
    zoom = RandomZoom((2.0, 2.0), least_visible=0.5)
    kept = zoom(batch, torch.rand(50, 3, generator=torch.Generator().manual_seed(0)))
    crowd = zoom(batch._replace(crowd=batch.label >= 0), torch.rand(50, 3, generator=torch.Generator().manual_seed(0)))
    counts = [(field.label != IGNORE_LABEL).sum() for field in (batch, kept, crowd)]
    assert counts[0] > counts[2] > counts[1] > 0
    # A box that stays is at least half of what it was, enlarged.
    side = kept.box[:, :, 2:] - kept.box[:, :, :2]
    whole = torch.tensor([144.0, 384.0, 144.0])[kept.label.clamp(min=0)]
    assert (side.prod(dim=2) >= 0.5 * whole - 1e-3)[kept.label != IGNORE_LABEL].all()


def test_what_would_leave_the_boxes_behind_is_refused() -> None:
    with pytest.raises(UserError, match="RandomHorizontalFlip knows no boxes"):
        DetectionAugmentation([RandomHorizontalFlip()])  # type: ignore[list-item]
    for transform in (RandomHorizontalFlip(), RandomApply(RandomAffine(10))):
        with pytest.raises(UserError, match="moves pixels and would leave the boxes behind"):
            DetectionAugmentation(photometric=Augmentation([ColorJitter(), transform]))
    DetectionAugmentation(photometric=Augmentation([RandomErasing(), RandomApply(ColorJitter())]))
    with pytest.raises(UserError, match=r"RandomZoom\.scale: need \[smallest, largest\]"):
        RandomZoom((0.0, 2.0))


def test_one_s_own_transform_is_one_class() -> None:
    class Shrink(BoxTransform):
        draws = 1

        def forward(self, batch: DetectionBatch, u: Tensor) -> DetectionBatch:
            return batch._replace(box=batch.box * u[:, :, None])

    batch = random_batch()
    assert (DetectionAugmentation([Shrink()])(batch).box <= batch.box).all()


def test_places_are_exact_whatever_the_default_dtype() -> None:
    batch = random_batch()
    expected = everything()(batch)
    torch.set_default_dtype(torch.bfloat16)
    try:
        augmented = everything()(batch)
    finally:
        torch.set_default_dtype(torch.float32)
    assert augmented.box.dtype == augmented.image.dtype == torch.float32
    for name, a, b in zip(batch._fields, augmented, expected, strict=True):
        assert torch.equal(a, b), name
