import math

import pytest
import torch

from toolkit.errors import UserError
from toolkit.nn.mlp import MLP


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _net(**kwargs):
    return MLP(num_classes=5, in_channels=2, image_size=(4, 3), **kwargs)


def test__forward_matches_matrix_products():
    net = _net(hidden=[7, 6]).eval()
    image = torch.randn(3, 2, 4, 3)
    w1, b1, w2, b2, w3, b3 = (parameter.detach() for parameter in net.parameters())
    hidden = (image.reshape(3, 24) @ w1.T + b1).clamp(min=0)
    features = (hidden @ w2.T + b2).clamp(min=0)
    torch.testing.assert_close(net.forward_features(image), features)
    torch.testing.assert_close(net(image), features @ w3.T + b3)


def test__without_hidden_layers_it_is_logistic_regression():
    net = _net(hidden=[])
    image = torch.randn(3, 2, 4, 3)
    torch.testing.assert_close(net(image), image.flatten(1) @ net.head.weight.T + net.head.bias)
    assert len(list(net.parameters())) == 2


def test__pixels_have_no_neighbours():
    # Shuffling the pixels and the first layer's columns alike changes nothing.
    net = _net(hidden=[7])
    image, order = torch.randn(3, 2, 4, 3), torch.randperm(24)
    expected = net(image)
    with torch.no_grad():
        net.body[0].weight.copy_(net.body[0].weight[:, order])
    torch.testing.assert_close(net(image.flatten(1)[:, order].view_as(image)), expected)


def test__gradient_reaches_every_parameter():
    net = _net()
    net(torch.randn(8, 2, 4, 3)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test__hidden_layers_keep_the_second_moment():
    # What He initialisation is for: E[relu(Wx)^2] stays E[x^2] / 2 * 2 through any number of layers.
    net = MLP(num_classes=5, in_channels=1, image_size=(32, 32), hidden=[1024] * 8)
    features = net.forward_features(torch.randn(64, 1, 32, 32))
    assert features.square().mean().item() == pytest.approx(1.0, rel=0.2)
    assert net.head.weight.std().item() == pytest.approx(1 / math.sqrt(1024), rel=0.1)


def test__dropout_acts_in_training_only():
    net = _net(dropout=0.5)
    image = torch.randn(3, 2, 4, 3)
    assert not torch.equal(net.train()(image), net(image))
    assert torch.equal(net.eval()(image), net(image))


@pytest.mark.parametrize("shape", [(3, 1, 4, 3), (3, 2, 3, 4)])
def test__wrong_images_raise(shape):
    with pytest.raises(UserError, match="the network was built for"):
        _net()(torch.zeros(shape))
