import pytest
import torch

from toolkit.errors import UserError
from toolkit.keys import sample_keys
from toolkit.nn.vit import ViT
from toolkit.selfsupervised.mae import MAE
from toolkit.types import IGNORE_LABEL, ImageBatch
from toolkit.vision.networks.small_cnn import SmallCNN

SIZE = {"patch_size": 2, "dim": 16, "depth": 1, "heads": 2}
DECODER = {"decoder_dim": 8, "decoder_heads": 2, "decoder_depth": 1}


def make(pooling: str = "cls", **options: object) -> MAE:
    net = ViT(num_classes=10, in_channels=3, image_size=(8, 12), pooling=pooling, **SIZE)  # type: ignore[arg-type]
    return MAE(net, **DECODER | options)  # type: ignore[arg-type]


def batch(n: int) -> ImageBatch:
    image = torch.randint(0, 256, (n, 3, 8, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return ImageBatch(image, torch.zeros(n, dtype=torch.int64), torch.arange(n), sample_keys(0, 0, torch.arange(n)))


def test_patches_are_squares_in_reading_order() -> None:
    task, image = make(), torch.rand(2, 3, 8, 12)
    patches = task.net.patchify(image)
    assert patches.shape == (2, 24, 12)
    torch.testing.assert_close(patches[1, 7], image[1, :, 2:4, 2:4].permute(1, 2, 0).flatten())  # second row, second
    torch.testing.assert_close(task.net.unpatchify(patches), image, rtol=0, atol=0)


def test_mask_hides_its_share_and_depends_on_the_key_alone() -> None:
    task = make(masked=0.75)
    mask = task.mask(batch(50).key)
    assert mask.visible.shape == (50, 6)
    assert (mask.hidden.sum(dim=1) == 18).all()
    assert not mask.hidden.gather(1, mask.visible).any()
    torch.testing.assert_close(task.mask(batch(50).key[7:9]).hidden, mask.hidden[7:9], rtol=0, atol=0)
    assert len({tuple(row) for row in mask.hidden.tolist()}) == 50
    assert 0.5 < mask.hidden.float().mean(dim=0).min() < mask.hidden.float().mean(dim=0).max() < 0.95


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_hidden_pixels_are_not_seen(pooling: str) -> None:
    task, image = make(pooling).eval(), torch.rand(2, 3, 8, 12)
    mask = task.mask(batch(2).key)
    patches = task.net.patchify(image)
    changed = task.net.unpatchify(patches.where(~mask.hidden[:, :, None], torch.tensor(9.0)))
    seen = task.net.unpatchify(patches.where(mask.hidden[:, :, None], torch.tensor(9.0)))
    torch.testing.assert_close(task.net(changed, mask.visible), task.net(image, mask.visible), rtol=0, atol=0)
    assert not torch.allclose(task.net(seen, mask.visible), task.net(image, mask.visible))


def test_visible_tokens_keep_their_places_in_the_decoder() -> None:
    """With a decoder that only embeds, a patch's token comes out at its own place, the mask token elsewhere."""
    decoder = make().net.decoder
    decoder.blocks, decoder.norm, decoder.head = torch.nn.Sequential(), torch.nn.Identity(), torch.nn.Identity()
    with torch.no_grad():
        decoder.positions.zero_()
    visible, place = torch.rand(2, 2, 16), torch.tensor([[3, 9], [0, 23]])
    tokens = decoder(visible, place)
    torch.testing.assert_close(tokens[0, 9], decoder.embed(visible)[0, 1])
    torch.testing.assert_close(tokens[1, 0], decoder.embed(visible)[1, 0])
    torch.testing.assert_close(tokens[1, 5], decoder.mask_token[0, 0])


def test_unreadable_images_count_nowhere() -> None:
    task, whole = make().eval(), batch(4)
    label = whole.label.clone()
    label[2:] = IGNORE_LABEL
    some = task.step(whole._replace(label=label), "val").loss
    torch.testing.assert_close(some, task.step(ImageBatch(*(field[:2] for field in whole)), "val").loss)


def test_a_batch_of_one_is_fine_and_all_but_the_head_learns() -> None:
    task = make()
    task.step(batch(1), "train").loss.backward()
    without = {name for name, parameter in task.named_parameters() if parameter.grad is None}
    assert without == {"net.backbone.head.weight", "net.backbone.head.bias"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masked": 0.0}, "hides 0 of 24"),
        ({"masked": 0.99}, "hides 24 of 24"),
        ({"decoder_heads": 3}, "divide decoder_dim"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**options)


def test_another_network_is_refused() -> None:
    with pytest.raises(UserError, match="MAE hides the patches of a ViT, got SmallCNN"):
        MAE(SmallCNN(in_channels=3, num_classes=10))  # type: ignore[arg-type]
