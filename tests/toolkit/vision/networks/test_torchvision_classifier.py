import copy
import urllib.error

import pytest
import torch
import torchvision.models as tv
from torch import nn

from toolkit.errors import UserError
from toolkit.nn.pretrained import without_pretrained
from toolkit.vision.networks.torchvision_classifier import TorchvisionClassifier

SMALL = "shufflenet_v2_x0_5"
FILE = "shufflenetv2_x0.5-f707e7126e.pth"  # torchvision's own name of the published weights of SMALL
IMAGENET_MEAN = [0.485, 0.456, 0.406]

# One of each way in which torchvision writes a head, with the smallest images it takes.
FAMILIES = {
    "resnet18": 32,
    "mobilenet_v3_small": 32,
    "efficientnet_b0": 32,
    "densenet121": 32,
    "convnext_tiny": 32,
    "regnet_y_400mf": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "mnasnet0_5": 32,
    "swin_t": 32,
}


@pytest.fixture(autouse=True)
def _seed(tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "urlopen", lambda request: pytest.fail("a test went to the network"))


@pytest.mark.parametrize("name", FAMILIES)
def test__head_is_replaced_in_every_family(name):
    net = TorchvisionClassifier(num_classes=3, in_channels=3, name=name).eval()
    image = torch.randn(2, 3, FAMILIES[name], FAMILIES[name])
    with torch.no_grad():
        features, logits = net.forward_features(image), net(image)
    assert features.shape == (2, net.head.in_features)
    torch.testing.assert_close(logits, features @ net.head.weight.T + net.head.bias)
    assert net.head.out_features == 3
    assert not any(isinstance(m, nn.Linear) and m.out_features == 1000 for m in net.modules())


# The published networks of 58 and 29 million parameters and more are only counted, on no memory.
@pytest.mark.parametrize("name", ["vgg11", "alexnet", "vit_b_16", "maxvit_t"])
def test__large_families_keep_all_but_the_head(name):
    with torch.device("meta"):
        net, whole = TorchvisionClassifier(num_classes=1000, name=name), tv.get_model(name, weights=None)
    count = sum(parameter.numel() for parameter in net.parameters())
    missing_bias = 1000 if name == "maxvit_t" else 0  # its own head has none
    assert count - missing_bias == sum(parameter.numel() for parameter in whole.parameters())


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet", "mnasnet0_5"])
def test__state_dict_from_a_path_gives_the_features_of_the_network_that_wrote_it(name, tmp_path):
    options = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {}
    source = tv.get_model(name, weights=None, **options).eval()
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    net = TorchvisionClassifier(num_classes=3, name=name, weights=str(tmp_path / "weights.pth")).eval()
    source.set_submodule(net.head_name, nn.Identity())
    image = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(net.forward_features(image), source(image))
    assert net.pixel_mean is None  # nobody knows what they were trained on


def test__oldest_densenet_names_are_read(tmp_path):
    source = tv.densenet121(weights=None)
    old = {
        key.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1").replace("conv2", "conv.2")
        if "denselayer" in key
        else key: value
        for key, value in source.state_dict().items()
    }
    assert old.keys() != source.state_dict().keys()
    torch.save(old, tmp_path / "weights.pth")
    net = TorchvisionClassifier(num_classes=3, name="densenet121", weights=str(tmp_path / "weights.pth"))
    key = "features.denseblock1.denselayer1.conv2.weight"
    assert torch.equal(net.backbone.state_dict()[key], source.state_dict()[key])


def test__named_weights_are_loaded_from_the_hub_folder(tmp_path):
    source = tv.get_model(SMALL, weights=None)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(source.state_dict(), tmp_path / "hub" / "checkpoints" / FILE)
    net = TorchvisionClassifier(num_classes=3, name=SMALL, weights="DEFAULT")
    assert torch.equal(net.backbone.conv1[0].weight, source.conv1[0].weight)
    assert net.pixel_mean == IMAGENET_MEAN


def test__published_file_given_by_its_path_brings_its_normalisation(tmp_path):
    torch.save(tv.get_model(SMALL, weights=None).state_dict(), tmp_path / FILE)
    net = TorchvisionClassifier(num_classes=3, name=SMALL, weights=str(tmp_path / FILE))
    assert net.pixel_mean == IMAGENET_MEAN


def test__normalisation_follows_the_weights_and_not_the_field():
    with without_pretrained(), torch.device("meta"):
        net = TorchvisionClassifier(num_classes=3, name="efficientnet_v2_l", weights="DEFAULT")
    assert (net.pixel_mean, net.pixel_std) == ([0.5] * 3, [0.5] * 3)


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1", f"gone/{FILE}"])
def test__without_pretrained_neither_network_nor_file_is_needed(weights):
    with without_pretrained():
        net = TorchvisionClassifier(num_classes=3, name=SMALL, weights=weights)
    assert net.pixel_mean == IMAGENET_MEAN
    copy.deepcopy(net).load_state_dict(net.state_dict())


def test__architecture_follows_the_weights_that_were_trained_on_larger_images():
    with without_pretrained(), torch.device("meta"):
        net = TorchvisionClassifier(num_classes=3, name="vit_b_16", weights="IMAGENET1K_SWAG_E2E_V1")
    assert net.exact_size == (384, 384)


def test__inception_shifts_pixels_for_pretrained_weights_only():
    with without_pretrained():
        assert TorchvisionClassifier(3, name="inception_v3", weights="DEFAULT").backbone.transform_input
    assert not TorchvisionClassifier(3, name="inception_v3").backbone.transform_input


def test__failed_download_names_address_and_place(monkeypatch, tmp_path):
    def no_network(request):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    place = tmp_path / "hub" / "checkpoints" / FILE
    with pytest.raises(UserError, match=rf"https://download\.pytorch\.org/models/{FILE}.*not known") as caught:
        TorchvisionClassifier(num_classes=3, name=SMALL, weights="DEFAULT")
    assert str(place) in str(caught.value)


def test__frozen_backbone_keeps_weights_and_statistics(tmp_path):
    torch.save(tv.get_model(SMALL, weights=None).state_dict(), tmp_path / FILE)
    net = TorchvisionClassifier(3, name=SMALL, weights=str(tmp_path / FILE), freeze_backbone=True)
    before = copy.deepcopy(net.state_dict())
    net.eval().train()
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1.0)
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    changed = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"head.weight", "head.bias"}
    assert net.training
    assert net.head.training


def test__gradient_reaches_every_parameter_if_not_frozen():
    net = TorchvisionClassifier(num_classes=3, in_channels=1, name=SMALL)
    net(torch.randn(4, 1, 32, 32)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test__untrained_network_takes_other_channels():
    net = TorchvisionClassifier(num_classes=3, in_channels=5, name=SMALL)
    assert net(torch.randn(2, 5, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resent18"}, "no classifier 'resent18'. Did you mean 'resnet18'"),
        ({"name": "perceptron"}, "Choose one of alexnet, convnext_base"),
        ({"name": "squeezenet1_0"}, "squeezenet1_0 ends in a convolution"),
        (
            {"name": "resnet50", "weights": "V3"},
            "only DEFAULT, IMAGENET1K_V1, IMAGENET1K_V2; or give the path",
        ),
        ({"name": "vgg16", "weights": "IMAGENET1K_FEATURES"}, "only DEFAULT, IMAGENET1K_V1;"),
        ({"name": SMALL, "weights": "gone.pth"}, r"no such file: 'gone\.pth'"),
        ({"name": SMALL, "weights": "DEFAULT", "in_channels": 1}, r"set data\.init_args\.in_channels to 3"),
        ({"name": SMALL, "freeze_backbone": True}, "freeze_backbone: it would freeze random weights"),
    ],
)
def test__wrong_arguments_raise(options, message):
    with pytest.raises(UserError, match=message):
        TorchvisionClassifier(num_classes=3, **options)


def test__weights_of_another_architecture_raise(tmp_path):
    torch.save(tv.resnet18(weights=None).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=rf"does not fit {SMALL}: Missing key.*same architecture"):
        TorchvisionClassifier(num_classes=3, name=SMALL, weights=str(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("vit_b_16", (1, 3, 32, 32), r"set data\.init_args\.image_size to \[224, 224\]"),
        ("maxvit_t", (1, 3, 448, 448), r"set data\.init_args\.image_size to \[224, 224\]"),
        ("inception_v3", (1, 3, 75, 32), r"at least 75 x 75, got \[75, 32\]"),
        ("resnet18", (1, 1, 32, 32), r"set data\.init_args\.in_channels to 3"),
    ],
)
def test__images_that_the_architecture_cannot_take_raise(name, shape, message):
    with torch.device("meta"):
        net = TorchvisionClassifier(num_classes=3, name=name)
    with pytest.raises(UserError, match=message):
        net(torch.zeros(shape, device="meta"))
