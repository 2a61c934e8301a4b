import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from datamodules.digits import DigitsDataModule
from datamodules.wrapped import OneClassDataModule
from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.nn.corruption import GaussianNoise
from toolkit.selfsupervised.autoencoder import Autoencoder
from toolkit.selfsupervised.networks.conv_autoencoder import ConvAutoencoder
from toolkit.types import IGNORE_LABEL, ImageBatch

NAMES = ("normal", "anomalous")


class Half(nn.Module):
    """Reconstructs half of what it sees, and remembers what that was."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, image: Tensor) -> Tensor:
        self.seen = image
        return image * self.scale


def batch(value: list[float], label: list[int]) -> ImageBatch:
    index = torch.arange(len(value))
    image = torch.tensor(value).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return ImageBatch(image, torch.tensor(label), index, sample_keys(0, 0, index))


def test_loss_is_the_squared_error_of_a_pixel() -> None:
    output = Autoencoder(Half()).step(batch([0.2, 0.4], [0, 0]), "train")
    assert float(output.loss.detach()) == pytest.approx((0.1**2 + 0.2**2) / 2)
    assert float(output.weight) == 2


def test_the_target_of_a_damaged_image_is_whole() -> None:
    net = Half()
    task = Autoencoder(net, GaussianNoise(0.3))
    whole = batch([0.2, 0.4], [0, 0])
    loss = task.step(whole, "train").loss
    assert not torch.equal(net.seen, whole.image)
    torch.testing.assert_close(loss, (net.seen * 0.5 - whole.image).square().mean())
    task.step(whole, "val")
    assert torch.equal(net.seen, whole.image)


def test_anomalies_count_in_the_curve_and_not_in_the_loss() -> None:
    task = Autoencoder(Half(), anomaly_class="anomalous", class_names=NAMES)
    values, labels = [0.1, 0.5, 0.4, 0.6, 0.9], [0, 0, 1, 1, IGNORE_LABEL]
    output = task.step(batch(values, labels), "val")
    assert float(output.loss.detach()) == pytest.approx((0.05**2 + 0.25**2) / 2)
    assert float(output.weight) == 2
    auroc = task.metrics("val").compute()
    assert [float(value) for value in auroc.values()] == [pytest.approx(roc_auc_score([0, 0, 1, 1], values[:4]))]


def test_an_evaluation_batch_of_anomalies_only() -> None:
    output = Autoencoder(Half(), anomaly_class="anomalous", class_names=NAMES).step(batch([0.3], [1]), "val")
    assert (float(output.loss.detach()), float(output.weight)) == (0, 0)


def test_the_baseline_is_the_mean_image() -> None:
    data = OneClassDataModule(DigitsDataModule(), normal="3", eval_batch_size=50)
    task = Autoencoder(Half(), anomaly_class="anomalous", class_names=data.class_names)
    found = task.baseline(data, "test")
    assert found is not None
    train, (image, label) = data.dataset("train").read(torch.arange(len(data.dataset("train"))))[0] / 255, data.dataset(
        "test"
    ).read(torch.arange(len(data.dataset("test"))))  # fmt: skip
    error = (image / 255 - train.mean(dim=0)).square().flatten(1).mean(dim=1)
    assert found.metrics["loss"] == pytest.approx(float(error[label == 0].mean()), rel=1e-5)
    assert found.metrics["auroc"] == pytest.approx(roc_auc_score(label, error), abs=1e-5)


def test_predict_gives_each_image_its_error() -> None:
    output = Autoencoder(Half()).predict_step(batch([0.2, 0.4], [0, 0]), 0)
    torch.testing.assert_close(output.score, torch.tensor([0.01, 0.04]))


def test_an_unknown_anomaly_class() -> None:
    with pytest.raises(UserError, match="no class 'broken'; choose from normal, anomalous"):
        Autoencoder(Half(), anomaly_class="broken", class_names=NAMES)
    with pytest.raises(UserError, match="it names no classes"):
        Autoencoder(Half(), anomaly_class="broken")


def test_network_gives_images_and_codes_back() -> None:
    net = ConvAutoencoder(in_channels=3, image_size=(16, 8), code_dim=5, widths=[4, 8], hidden=10)
    image = torch.rand(2, 3, 16, 8)
    assert net(image).shape == image.shape
    assert net.encode(image).shape == (2, 5)
    net(image).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_network_of_an_image_that_cannot_be_halved() -> None:
    with pytest.raises(UserError, match=r"2 halvings need an image size divisible by 4, got \[10, 8\]"):
        ConvAutoencoder(in_channels=1, image_size=(10, 8), widths=[4, 8])
