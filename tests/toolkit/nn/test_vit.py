import pytest
import torch
from torchvision.models import VisionTransformer

from toolkit.errors import UserError
from toolkit.nn.vit import ViT


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _net(**kwargs):
    options = {"patch_size": 4, "dim": 16, "depth": 2, "heads": 2, **kwargs}
    return ViT(num_classes=5, in_channels=3, image_size=(8, 12), **options)


# ViT-Ti and ViT-B with 16 x 16 patches, as timm and torchvision count them.
@pytest.mark.parametrize(("dim", "heads", "count"), [(192, 3, 5_717_416), (768, 12, 86_567_656)])
def test__parameter_count_is_the_literatures(dim, heads, count):
    with torch.device("meta"):
        net = ViT(1000, 3, image_size=(224, 224), patch_size=16, dim=dim, depth=12, heads=heads)
    assert sum(parameter.numel() for parameter in net.parameters()) == count


def _torchvision_names(state):
    yield "class_token", state["cls_token"]
    yield "encoder.pos_embedding", state["positions"]
    pairs = {"patch_embed.proj": "conv_proj", "norm": "encoder.ln", "head": "heads.head"}
    for block in range(2):
        ours, theirs = f"blocks.{block}.", f"encoder.layers.encoder_layer_{block}."
        pairs |= {f"{ours}norm1": f"{theirs}ln_1", f"{ours}norm2": f"{theirs}ln_2"}
        pairs |= {f"{ours}attention.proj": f"{theirs}self_attention.out_proj"}
        pairs |= {f"{ours}mlp.0": f"{theirs}mlp.0", f"{ours}mlp.3": f"{theirs}mlp.3"}
        for kind in ("weight", "bias"):
            yield f"{theirs}self_attention.in_proj_{kind}", state[f"{ours}attention.qkv.{kind}"]
    for ours, theirs in pairs.items():
        for kind in ("weight", "bias"):
            yield f"{theirs}.{kind}", state[f"{ours}.{kind}"]


def test__logits_match_torchvisions():
    net = ViT(num_classes=5, in_channels=3, image_size=(8, 8), patch_size=4, dim=16, depth=2, heads=2).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # norms and biases too, so that a wrong place for one shows
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    reference = VisionTransformer(8, 4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=64, num_classes=5).eval()
    reference.load_state_dict(dict(_torchvision_names(net.state_dict())))
    image = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(net(image), reference(image))


def _swap_patches(image):
    """Exchange the first and the last 4 x 4 patch."""
    swapped = image.clone()
    swapped[:, :, :4, :4], swapped[:, :, -4:, -4:] = image[:, :, -4:, -4:], image[:, :, :4, :4]
    return swapped


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test__without_positions_the_order_of_patches_is_nothing(pooling):
    net = _net(pooling=pooling).eval()
    image = torch.randn(2, 3, 8, 12)
    assert not torch.allclose(net(image), net(_swap_patches(image)))
    torch.nn.init.zeros_(net.positions)
    torch.testing.assert_close(net(image), net(_swap_patches(image)))


def test__patches_are_numbered_row_by_row():
    net = _net(pooling="mean")
    torch.nn.init.zeros_(net.positions)
    image = torch.zeros(1, 3, 8, 12)
    image[:, :, :4, 8:] = 1  # the last patch of the first of two rows of three
    lit = net.embed(image).abs().sum(dim=2)[0] > 0
    assert lit.tolist() == [False, False, True, False, False, False]


def test__some_patches_alone_can_be_encoded():
    # What a masked autoencoder does: the kept patches bring their own positions along.
    net = _net(pooling="mean").eval()
    tokens = net.embed(torch.randn(2, 3, 8, 12))
    kept, order = net.encode(tokens[:, [0, 3, 5]]), net.encode(tokens[:, [5, 0, 3]])
    torch.testing.assert_close(kept, order[:, [1, 2, 0]])
    assert _net().encode(tokens[:, :3]).shape == (2, 4, 16)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test__gradient_reaches_every_parameter(pooling):
    net = _net(pooling=pooling, dropout=0.1)
    net(torch.randn(4, 3, 8, 12)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test__dropout_acts_in_training_only():
    net = _net(dropout=0.5)
    image = torch.randn(2, 3, 8, 12)
    assert not torch.equal(net.train()(image), net(image))
    assert torch.equal(net.eval()(image), net(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 3}, r"patch_size: 3 does not divide the images' 8 x 12; write one of \[1, 2, 4\]"),
        ({"heads": 3}, "heads: 3 does not divide dim, which is 16"),
    ],
)
def test__what_does_not_divide_raises(options, message):
    with pytest.raises(UserError, match=message):
        _net(**options)


@pytest.mark.parametrize("shape", [(2, 1, 8, 12), (2, 3, 12, 8)])
def test__wrong_images_raise(shape):
    with pytest.raises(UserError, match="the network was built for"):
        _net()(torch.zeros(shape))
