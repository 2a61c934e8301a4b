from typing import Any

import pytest
import torch
from torch import Tensor, nn

from callbacks.media import Image
from callbacks.view_pairs import ViewPairs
from tests.conformance import CASES, digits
from toolkit.errors import UserError
from toolkit.selfsupervised.simclr import SimCLR
from toolkit.vision.image_classification import ImageClassification
from toolkit.vision.networks.small_cnn import SmallCNN


class Offset(nn.Module):
    """First views black, second ones white."""

    def forward(self, image: Tensor, key: Tensor) -> Tensor:
        first, second = image.chunk(2)
        return torch.cat([torch.zeros_like(first), torch.full_like(second, 255)])


def test_views_of_an_image_stand_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Image] = []
    monkeypatch.setattr("callbacks.view_pairs.log_media", lambda trainer, key, media: logged.append(media))
    task = CASES[SimCLR].build(SmallCNN(in_channels=1, num_classes=10))
    task.augment = Offset()  # type: ignore[assignment]
    callback, batch = ViewPairs(count=4), next(iter(digits().train_dataloader()))
    for _ in range(2):  # it draws once
        callback.on_train_batch_start(None, task, batch, 0)  # type: ignore[arg-type]
    (picture,) = logged
    pixels = torch.from_numpy(picture.pixels)[:, :, 0]  # two rows of two pairs
    pair = pixels[: len(pixels) // 2, : pixels.shape[1] // 2]
    left, right = pair.chunk(2, dim=1)
    assert left.float().median() == 0
    assert right.float().median() == 255


def test_other_tasks_are_refused() -> None:
    task = ImageClassification(SmallCNN(in_channels=1, num_classes=10), 10)
    with pytest.raises(UserError, match="the model is ImageClassification"):
        ViewPairs().setup(Any, task, "fit")  # type: ignore[arg-type]
