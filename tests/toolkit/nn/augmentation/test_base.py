"""The pipeline, and what every transform must keep to: one table instead of a copy for each."""

import json
import random
from typing import Any

import pytest
import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.keys import keyed_uniform, sample_keys
from toolkit.nn.augmentation import Augmentation, RandomCrop, RandomErasing, RandomHorizontalFlip, Transform, to_float

# Class, arguments as YAML gives them, and whether the dtype stays.
TABLE: list[tuple[str, dict[str, Any], bool]] = [
    ("RandomHorizontalFlip", {}, True),
    ("RandomVerticalFlip", {"p": 0.4}, True),
    ("RandomCrop", {"padding": 3}, True),
    ("RandomCrop", {"size": [9, 11], "padding": 2, "padding_mode": "reflect"}, True),
    ("RandomCrop", {"size": 12, "padding": 2, "padding_mode": "edge"}, True),
    ("RandomErasing", {"value": [0.2, 0.4, 0.6]}, True),
    ("RandomResizedCrop", {"size": [9, 11]}, False),
    ("RandomAffine", {"degrees": 30, "translate": [0.1, 0.2], "scale": [0.8, 1.2], "shear": 10}, False),
    ("RandomAffine", {"degrees": 30, "interpolation": "bilinear", "fill": 0.5}, False),
    ("ColorJitter", {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}, False),
    ("ColorJitter", {"brightness": [0.5, 0.9]}, False),
    ("RandomGrayscale", {"p": 0.5}, False),
    ("GaussianBlur", {"kernel_size": 5}, False),
    ("GaussianBlur", {"kernel_size": 1, "sigma": 1.0}, False),
]
# With these arguments nothing is left to change.
IDENTITIES: list[tuple[str, dict[str, Any]]] = [
    ("RandomHorizontalFlip", {"p": 0}),
    ("RandomVerticalFlip", {"p": 0}),
    ("RandomCrop", {}),
    ("RandomErasing", {"p": 0}),
    ("RandomResizedCrop", {"size": [20, 14], "scale": [1, 1], "ratio": [0.7, 0.7]}),
    ("RandomAffine", {"degrees": 0}),
    ("RandomAffine", {"degrees": 0, "interpolation": "bilinear", "fill": 0.5}),
    ("ColorJitter", {}),
    ("RandomGrayscale", {"p": 0}),
    ("GaussianBlur", {"kernel_size": 1}),
    ("GaussianBlur", {"kernel_size": 3, "sigma": 1e-3}),
]


def take(transform: Transform) -> Transform:
    return transform


def build(name: str, arguments: dict[str, Any]) -> Transform:
    """The transform as a config makes it, so that the types of all arguments are checked too."""
    text = json.dumps({"class_path": f"toolkit.nn.augmentation.{name}", "init_args": arguments})
    made = auto_cli(take, args=[f"--transform={text}"], as_positional=False)
    assert isinstance(made, Transform)
    return made


def augment(name: str, arguments: dict[str, Any], image: Tensor, key: Tensor) -> Tensor:
    result = Augmentation([build(name, arguments)])(image, key)
    assert isinstance(result, Tensor)
    return result


every = pytest.mark.parametrize(("name", "arguments", "keeps"), TABLE, ids=[f"{n}-{a}" for n, a, _ in TABLE])


@every
def test_a_sample_comes_out_the_same_in_any_batch(
    name: str, arguments: dict[str, Any], keeps: bool, image: Tensor, key: Tensor
) -> None:
    """Up to 1e-6: sums over another number of images may be taken in another order."""
    whole = augment(name, arguments, image, key)
    order = torch.randperm(len(key))
    shuffled = augment(name, arguments, image[order], key[order])
    torch.testing.assert_close(shuffled, whole[order], rtol=0, atol=0 if keeps else 1e-6)
    for i in (0, 7):
        alone = augment(name, arguments, image[i : i + 1], key[i : i + 1])
        torch.testing.assert_close(alone, whole[i : i + 1], rtol=0, atol=0 if keeps else 1e-6)


@every
def test_the_key_alone_decides(name: str, arguments: dict[str, Any], keeps: bool, image: Tensor, key: Tensor) -> None:
    """Same key, same result, and no global generator is read or moved; another epoch gives another result."""
    states = torch.random.get_rng_state(), random.getstate()
    first = augment(name, arguments, image, key)
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert states[1] == random.getstate()
    torch.manual_seed(1)
    assert torch.equal(first, augment(name, arguments, image, key))
    if arguments.get("kernel_size") != 1:  # blurs nothing, whatever the key
        assert not torch.equal(first, augment(name, arguments, image, sample_keys(0, 1, torch.arange(len(key)))))


@every
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
def test_dtype_and_range(
    name: str, arguments: dict[str, Any], keeps: bool, dtype: torch.dtype, image: Tensor, key: Tensor
) -> None:
    given = image if dtype == torch.uint8 else to_float(image).to(dtype)
    result = augment(name, arguments, given, key)
    assert result.dtype == (dtype if keeps else torch.float32)
    value = to_float(result)
    assert value.min() >= -1e-6
    assert value.max() <= 1 + 1e-6
    exact = to_float(augment(name, arguments, to_float(image), key))
    torch.testing.assert_close(value, exact, rtol=0, atol=5e-3 if dtype == torch.float16 else 2e-6)


@every
def test_the_batch_given_is_left_as_it_was(
    name: str, arguments: dict[str, Any], keeps: bool, image: Tensor, key: Tensor
) -> None:
    for given in (image, to_float(image)):
        before = given.clone()
        augment(name, arguments, given, key).add_(1)
        assert torch.equal(given, before)


@every
def test_memory_format_and_autocast_change_nothing(
    name: str, arguments: dict[str, Any], keeps: bool, image: Tensor, key: Tensor
) -> None:
    given = to_float(image)
    expected = augment(name, arguments, given, key)
    last = augment(name, arguments, given.contiguous(memory_format=torch.channels_last), key)
    torch.testing.assert_close(last, expected, rtol=0, atol=0 if keeps else 1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment(name, arguments, given, key), expected)


@pytest.mark.parametrize(("name", "arguments"), IDENTITIES, ids=[f"{n}-{a}" for n, a in IDENTITIES])
def test_nothing_to_do_is_the_identity(name: str, arguments: dict[str, Any], image: Tensor, key: Tensor) -> None:
    result = augment(name, arguments, image, key)
    if result.dtype == torch.uint8:
        assert torch.equal(result, image)
    else:  # resampling places pixels up to rounding
        torch.testing.assert_close(result, to_float(image), rtol=0, atol=1e-5)


def test_transforms_run_in_order_each_with_numbers_of_its_own(image: Tensor, key: Tensor) -> None:
    flip, erase = RandomHorizontalFlip(), RandomErasing(p=1)
    first = flip(image, keyed_uniform(key, stream=0))
    expected = erase(first, keyed_uniform(key, stream=1, n=erase.draws))
    assert torch.equal(Augmentation([flip, erase])(image, key), expected)
    # Two flips with the same numbers would cancel.
    assert not torch.equal(Augmentation([flip, RandomHorizontalFlip()])(image, key), image)
    assert torch.equal(Augmentation([])(image, key), image)


def test_to_float() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_float(levels), torch.arange(256) / 255)
    assert to_float(torch.ones(2, dtype=torch.float64)).dtype == torch.float32
    assert torch.equal(levels, torch.arange(256, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"uint8 or a floating dtype, got torch.int64; write images.to\(torch.uint8\)"):
        to_float(torch.arange(3))


def test_another_librarys_transform_is_refused() -> None:
    with pytest.raises(UserError, match=r"Augmentation.transforms: Identity is no keyed transform; write one of"):
        Augmentation([nn.Identity()])  # type: ignore[list-item]


@pytest.mark.parametrize(("images", "keys"), [((3, 8, 8), (3,)), ((2, 3, 8, 8), (3,)), ((2, 3, 8, 8), (2, 1))])
def test_one_key_an_image(images: tuple[int, ...], keys: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"need a batch \(B, C, H, W\) and one key an image, got"):
        Augmentation([RandomCrop()])(torch.zeros(images), torch.zeros(keys, dtype=torch.int64))
