import numpy as np
import pytest
import torch

from datamodules.digit_scenes import OVERLAP, DigitScenes
from toolkit.errors import UserError


def test_a_scene_depends_on_stage_seed_and_index_alone() -> None:
    scenes = DigitScenes("train")
    for _ in range(2):  # whatever was drawn before
        assert all(torch.equal(a, b) for a, b in zip(scenes(3), DigitScenes("train")(3), strict=True))
    others = [DigitScenes("val")(3), DigitScenes("train", seed=1)(3), scenes(4)]
    assert all(not torch.equal(scenes(3).image, other.image) for other in others)


def test_stages_share_no_digit() -> None:
    train, val, test = ({ink.tobytes() for ink in DigitScenes(stage)._ink} for stage in ("train", "val", "test"))
    assert len(train) > 1200
    assert not train & val | train & test | val & test


def test_boxes_hold_the_ink_exactly_and_overlap_slightly() -> None:
    scenes = DigitScenes("train", image_size=(64, 100), digits=(2, 5))
    for index in range(50):
        image, box, label, mask = scenes(index)
        assert image.shape == (3, 64, 100)
        assert image.dtype == torch.uint8
        assert mask.shape == (64, 100)
        covered = torch.zeros_like(mask, dtype=torch.bool)
        for (left, top, right, bottom), digit in zip(box.int().tolist(), label.tolist(), strict=True):
            ink = mask[top:bottom, left:right] == digit + 1
            assert ink[0].any()
            assert ink[-1].any()
            assert ink[:, 0].any()
            assert ink[:, -1].any()
            covered[top:bottom, left:right] |= ink
        assert torch.equal(covered, mask > 0)
        area = (box[:, 2:] - box[:, :2]).prod(dim=1)
        width_height = torch.minimum(box[:, None, 2:], box[:, 2:]) - torch.maximum(box[:, None, :2], box[:, :2])
        share = width_height.clamp(min=0).prod(dim=2) / torch.minimum(area[:, None], area)
        assert (share - torch.eye(len(box)) <= OVERLAP).all()


def test_counts_and_classes_are_spread() -> None:
    compose = DigitScenes("train")
    scenes = [compose(index) for index in range(300)]
    counts = torch.tensor([len(scene.label) for scene in scenes])
    assert counts.unique().tolist() == [1, 2, 3, 4, 5, 6]
    assert torch.cat([scene.label for scene in scenes]).bincount(minlength=10).min() > 60


def test_digits_stand_out_from_what_is_around_them() -> None:
    scenes = DigitScenes("val")
    for index in range(50):
        image, box, _, mask = scenes(index)
        pixels = image.numpy().astype(np.float32)
        for left, top, right, bottom in box.int().tolist():
            ink = mask[top:bottom, left:right].numpy() > 0
            window = pixels[:, top:bottom, left:right]
            if not ink.all():
                assert np.abs(window[:, ink].mean(axis=1) - window[:, ~ink].mean(axis=1)).max() > 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"digits": (4, 3)}, r"digits: need 0 <= fewest <= most and 1 <= most, got \[4, 3\]"),
        ({"scale": (3.0, 2.0)}, r"scale: need \[least, most\] from 1 up, got \[3.0, 2.0\]"),
        ({"image_size": (32, 96)}, r"image_size: \[32, 96\] is too small .* at least 40 pixels"),
    ],
)
def test_senseless_ranges_are_refused(options: dict[str, tuple[float, float]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DigitScenes("train", **options)  # type: ignore[arg-type]
