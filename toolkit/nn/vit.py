"""The vision transformer.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021.
Shape legend: B batch, C channels, H height, W width, K classes, N patches, P patch side, D width of a token.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.image_input import check_images

MLP_RATIO = 4
"""Hidden width of a block's MLP, in multiples of D (table 1 of the paper)."""


class PatchEmbed(nn.Module):
    """Cut images into squares and map each linearly to a token, row by row from the top left.

    Args:
        in_channels: C.
        patch_size: P.
        dim: D.
    """

    def __init__(self, in_channels: int, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` to tokens ``(B, N, D)``, ``N = (H / P) * (W / P)``."""
        tokens: Tensor = self.proj(image)  # (B, D, H/P, W/P)
        return tokens.flatten(2).transpose(1, 2)  # (B, N, D)


class Attention(nn.Module):
    """Multi-head self-attention (appendix A).

    Args:
        dim: D.
        heads: Number of heads; divides D.
        dropout: Probability after the output projection.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(B, N, D)`` to tokens of the same shape."""
        B, N, D = x.shape
        qkv = self.qkv(x).view(B, N, 3, self.heads, D // self.heads)  # (B, N, 3, heads, D/heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, D/heads)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, D)
        out: Tensor = self.dropout(self.proj(y))  # (B, N, D)
        return out


class Block(nn.Module):
    """Attention and MLP, each on normalised input and added to it (eqs. 2 and 3).

    Args:
        dim: D.
        heads: Number of heads; divides D.
        dropout: Probability after every dense layer but q, k and v.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads, dropout)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(dim, MLP_RATIO * dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(MLP_RATIO * dim, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``(B, N, D)`` to tokens of the same shape."""
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class ViT(nn.Module):
    """Pre-norm transformer over image patches with learned positions.

    Departures from the paper: the head is drawn and not zero, so that the first step already trains everything; the
    defaults are a network for 32 x 32 images, of 2.7 M parameters.

    Args:
        num_classes: K.
        in_channels: C.
        image_size: ``(H, W)``.
        patch_size: P; divides H and W.
        dim: D.
        depth: Number of blocks.
        heads: Attention heads; divides D.
        pooling: What goes to the head: the extra "cls" token, or the "mean" of the patches, without an extra one.
        dropout: Probability after every dense layer but q, k and v, and after the positions are added.

    Raises:
        UserError: Patches do not tile the image, or heads do not divide D.

    >>> net = ViT(num_classes=10, in_channels=3, image_size=(32, 32))
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
        patch_size: int = 4,
        dim: int = 192,
        depth: int = 6,
        heads: int = 3,
        pooling: Literal["cls", "mean"] = "cls",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check(image_size, patch_size, dim, heads)
        self.in_channels = in_channels
        self.image_size = (image_size[0], image_size[1])
        patches = (image_size[0] // patch_size) * (image_size[1] // patch_size)  # N
        extra = 1 if pooling == "cls" else 0
        self.patch_embed = PatchEmbed(in_channels, patch_size, dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim)) if extra else None
        self.positions = nn.Parameter(torch.empty(1, extra + patches, dim))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(dim, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        patch = self.patch_embed.proj
        # As the linear layer on flattened patches that it is (He et al., "Masked Autoencoders", CVPR 2022, A.1).
        nn.init.xavier_uniform_(patch.weight.view(patch.out_channels, -1))
        assert patch.bias is not None
        nn.init.zeros_(patch.bias)
        nn.init.trunc_normal_(self.positions, std=0.02)
        if self.cls_token is not None:
            nn.init.trunc_normal_(self.cls_token, std=0.02)

    def embed(self, image: Tensor) -> Tensor:
        """Patches with their positions, without the extra token.

        Args:
            image: ``(B, C, H, W)``, float, normalised.

        Returns:
            Tokens, ``(B, N, D)``.

        Raises:
            UserError: Another number of channels or another size than the network was built for.
        """
        check_images(image, self.in_channels, self.image_size)
        tokens: Tensor = self.patch_embed(image)  # (B, N, D)
        tokens = self.dropout(tokens + self.positions[:, -tokens.shape[1] :])
        return tokens

    def encode(self, tokens: Tensor) -> Tensor:
        """All blocks and the last normalisation, over all patches or (masked autoencoder) some of them.

        Args:
            tokens: ``(B, M, D)``, from `embed`.

        Returns:
            ``(B, M + 1, D)`` with the extra token first; ``(B, M, D)`` if the pooling is "mean".
        """
        if self.cls_token is not None:
            first = (self.cls_token + self.positions[:, :1]).expand(len(tokens), -1, -1)  # (B, 1, D)
            tokens = torch.cat([self.dropout(first), tokens], dim=1)
        encoded: Tensor = self.norm(self.blocks(tokens))
        return encoded

    def forward_features(self, image: Tensor) -> Tensor:
        """The head's input: ``(B, D)`` for images ``(B, C, H, W)``."""
        encoded: Tensor = self.encode(self.embed(image))  # (B, N, D) or (B, 1 + N, D)
        return encoded.mean(dim=1) if self.cls_token is None else encoded[:, 0]  # (B, D)

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(B, K)`` of images ``(B, C, H, W)``."""
        logits: Tensor = self.head(self.forward_features(image))  # (B, K)
        return logits


def _check(image_size: tuple[int, int], patch_size: int, dim: int, heads: int) -> None:
    H, W = image_size
    if patch_size < 1 or H % patch_size or W % patch_size:
        fitting = [p for p in range(1, min(H, W) + 1) if H % p == 0 and W % p == 0]
        raise UserError(f"patch_size: {patch_size} does not divide the images' {H} x {W}; write one of {fitting}.")
    if heads < 1 or dim % heads:
        raise UserError(f"heads: {heads} does not divide dim, which is {dim}; such as dim={64 * max(heads, 1)}.")
