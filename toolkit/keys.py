"""Random numbers that are a pure function of a key: what makes augmentation repeatable whatever the workers do.

A sample's key is a hash of (seed, epoch, index). Every draw hashes the key again with the number of the stream (which
transform asks) and of the draw, so that no global generator is read or moved: the same sample of the same epoch is
augmented alike on any device, by any worker, in any order, before and after a resume. The hash is the finaliser of
SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), computed for a whole
batch at once on int64 tensors, whose arithmetic wraps modulo 2**64.
"""

import math

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The two's complement reading of an unsigned 64-bit integer (torch has no uint64 arithmetic)."""
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)
_VIEWS = 1 << 32
"""Beyond the numbers of all streams, so that no view's key is what a stream is drawn from."""


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical (unsigned) shift: torch's ``>>`` on int64 copies the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser, a bijection of the 64-bit integers."""
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def sample_keys(seed: int, epoch: int, index: Tensor) -> Tensor:
    """Keys of samples in one epoch.

    Args:
        seed: Seed of the run.
        epoch: Epoch, counted from 0.
        index: Sample numbers in the data set, shape ``(B,)``, int64.

    Returns:
        Keys, shape ``(B,)``, int64, on the device of ``index``.

    >>> a, b = sample_keys(0, 0, torch.tensor([3, 4])), sample_keys(0, 1, torch.tensor([3, 4]))
    >>> bool((a != b).all())
    True
    """
    run = _mix(torch.tensor(_signed(seed), device=index.device) + _GOLDEN)
    return _mix(_mix(run + _signed((epoch + 1) * _GOLDEN)) + (index + 1) * _GOLDEN)


def single_key(seed: int, epoch: int, index: int) -> int:
    """`sample_keys` of one number, in a hundredth of the time: what a training step seeds itself with.

    >>> single_key(7, 2, 5) == sample_keys(7, 2, torch.tensor([5])).item()
    True
    """
    run = _mix_integer(seed + _GOLDEN)
    return _signed(_mix_integer(_mix_integer(run + (epoch + 1) * _GOLDEN) + (index + 1) * _GOLDEN))


def _mix_integer(z: int) -> int:
    """`_mix`, of an integer read modulo 2**64."""
    z &= 0xFFFFFFFFFFFFFFFF
    z = ((z ^ z >> 30) * _MIX_1) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ z >> 27) * _MIX_2) & 0xFFFFFFFFFFFFFFFF
    return z ^ z >> 31


def keyed_uniform(keys: Tensor, stream: int, n: int = 1) -> Tensor:
    """Uniform numbers that depend on nothing but their key, stream and position.

    Args:
        keys: Sample keys, shape ``(B,)``, int64.
        stream: Which consumer asks; two consumers with different numbers get independent draws.
        n: Draws per sample.

    Returns:
        float32 in ``[0, 1)``, shape ``(B, n)``, on the device of ``keys``.

    >>> keys = sample_keys(0, 0, torch.arange(4))
    >>> torch.equal(keyed_uniform(keys, 1, 2)[2:], keyed_uniform(keys[2:], 1, 2))
    True
    """
    stream_keys = _mix(keys + _signed((stream + 1) * _GOLDEN))
    draw = torch.arange(1, n + 1, device=keys.device) * _GOLDEN
    bits = _mix(stream_keys[:, None] + draw)  # (B, n)
    return _shift_right(bits, 40).to(torch.float32) * 2.0**-24


def view_keys(keys: Tensor, view: int) -> Tensor:
    """Keys of one of several views of each sample, whose augmentations must not resemble each other.

    Args:
        keys: Sample keys, shape ``(B,)``, int64.
        view: Which view, from 0.

    Returns:
        Keys, shape ``(B,)``, int64, on the device of ``keys``.

    >>> keys = sample_keys(0, 0, torch.arange(4))
    >>> len(torch.cat([keys, view_keys(keys, 0), view_keys(keys, 1)]).unique())
    12
    """
    return _mix(keys + _signed((_VIEWS + view) * _GOLDEN))


def keyed_normal(keys: Tensor, stream: int, n: int) -> Tensor:
    """Standard normal numbers that depend on nothing but their key, stream and position.

    Box and Muller, "A Note on the Generation of Random Normal Deviates", Ann. Math. Statist., 1958.

    Args:
        keys: Sample keys, shape ``(B,)``, int64.
        stream: Which consumer asks.
        n: Draws per sample.

    Returns:
        float32, shape ``(B, n)``, on the device of ``keys``.

    >>> draw = keyed_normal(sample_keys(0, 0, torch.arange(1000)), 1, 20)
    >>> abs(float(draw.mean())) < 0.02 and abs(float(draw.std()) - 1) < 0.02
    True
    """
    half = (n + 1) // 2
    uniform = keyed_uniform(keys, stream, 2 * half)
    radius = (-2 * torch.log1p(-uniform[:, :half])).sqrt()
    angle = 2 * math.pi * uniform[:, half:]
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :n]
