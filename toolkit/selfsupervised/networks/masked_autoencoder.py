"""A vision transformer that sees some patches, and the small one that guesses the others.

Shape legend: B batch, C channels, H height, W width, N patches, M visible ones, P patch side, D width of a token.
"""

import torch
from torch import Tensor, nn

from toolkit.errors import UserError
from toolkit.nn.backbone import freeze_head
from toolkit.nn.vit import Block, ViT


class PatchDecoder(nn.Module):
    """From tokens of the visible patches to the pixels of all.

    He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, section 3 ("MAE decoder"). Departure:
    positions are learned, not sines, as in the encoder of this toolkit.

    Args:
        encoder_dim: Width of the encoder's tokens.
        patches: N.
        values: In a patch, ``P * P * C``.
        dim: D of the decoder.
        depth: Number of blocks.
        heads: Attention heads; divides D.
    """

    def __init__(self, encoder_dim: int, patches: int, values: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or dim % heads or depth < 1:
            raise UserError(
                "model.init_args: need decoder_depth >= 1, and decoder_heads that divide decoder_dim, got "
                f"{depth}, {heads} and {dim}."
            )
        self.embed = nn.Linear(encoder_dim, dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = nn.Parameter(torch.empty(1, patches, dim))
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, values)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, visible: Tensor, place: Tensor) -> Tensor:
        """Pixels of all patches.

        Args:
            visible: ``(B, M, encoder_dim)``.
            place: ``(B, M)``, int64, which of the N patches they are.

        Returns:
            ``(B, N, values)``.
        """
        visible = self.embed(visible)  # (B, M, D)
        tokens = self.mask_token.expand(len(visible), self.positions.shape[1], -1).to(visible.dtype)
        tokens = tokens.scatter(1, place[:, :, None].expand_as(visible), visible)  # (B, N, D)
        pixels: Tensor = self.head(self.norm(self.blocks(tokens + self.positions)))
        return pixels


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder.

    Args:
        backbone: The encoder; its head is left alone and frozen.
        dim: D of the decoder.
        depth: Blocks of the decoder.
        heads: Attention heads of the decoder.
    """

    def __init__(self, backbone: ViT, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        freeze_head(backbone)
        self.backbone = backbone
        self.patch_size = backbone.patch_embed.proj.kernel_size[0]
        patches = (backbone.image_size[0] // self.patch_size) * (backbone.image_size[1] // self.patch_size)
        values = self.patch_size**2 * backbone.in_channels
        self.decoder = PatchDecoder(backbone.head.in_features, patches, values, dim, depth, heads)

    def forward(self, image: Tensor, place: Tensor) -> Tensor:
        """Pixels ``(B, N, P * P * C)`` of all patches, from those whose places ``(B, M)`` are given."""
        tokens = self.backbone.embed(image)  # (B, N, D)
        visible = tokens.gather(1, place[:, :, None].expand(-1, -1, tokens.shape[2]))  # (B, M, D)
        encoded = self.backbone.encode(visible)[:, -place.shape[1] :]  # without the extra token
        return self.decoder(encoded, place)  # type: ignore[no-any-return]

    def patchify(self, image: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` as patches ``(B, N, P * P * C)``, row by row, channels last."""
        P = self.patch_size
        squares = image.unfold(2, P, P).unfold(3, P, P)  # (B, C, H/P, W/P, P, P)
        return squares.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """The inverse of `patchify`."""
        P = self.patch_size
        rows, columns = (side // P for side in self.backbone.image_size)
        squares = patches.view(len(patches), rows, columns, P, P, -1)  # (B, H/P, W/P, P, P, C)
        return squares.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, rows * P, columns * P)
