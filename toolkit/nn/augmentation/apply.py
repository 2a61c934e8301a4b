"""A transform of some samples only. Shape legend: B batch, C channels, H height, W width."""

from torch import Tensor

from toolkit.errors import UserError
from toolkit.nn.augmentation.base import Transform, to_float
from toolkit.nn.augmentation.checks import check_probability
from toolkit.nn.augmentation.choose import choose


class RandomApply(Transform):
    """Apply another transform with probability ``p``, and leave the other images as they are; gives float32.

    It is computed for all samples and taken for some: to pick them would make a device wait for their number. A CPU
    waits for nothing, and computes those that are taken.

    Args:
        transform: Which keeps the images' size.
        p: Probability.

    Raises:
        UserError: No probability; from ``forward``, a transform that changes the size.
    """

    def __init__(self, transform: Transform, p: float = 0.5) -> None:
        super().__init__()
        check_probability("RandomApply.p", p)
        self.transform = transform
        self.p = p
        self.draws = transform.draws + 1

    def make_params(self, u: Tensor) -> Tensor:
        """Whether to apply, ``(B,)``, bool; the last of ``(B, draws)`` uniforms decides."""
        return u[:, -1] < self.p

    def forward(self, image: Tensor, u: Tensor) -> Tensor:
        """Images ``(B, C, H, W)``, float32, some transformed."""
        chosen = self.make_params(u)
        if image.device.type == "cpu":
            picked = chosen.nonzero()[:, 0]
            if not len(picked):  # not every transform takes a batch of none
                return to_float(image)
            changed = self._changed(image[picked], u[picked])
            return to_float(image).clone().index_copy_(0, picked, changed)
        return choose(chosen, self._changed(image, u), to_float(image))

    def move_mask(self, mask: Tensor, u: Tensor) -> Tensor:
        """Move the labels of the same images."""
        moved = self.transform.move_mask(mask, u[:, :-1])
        self._check_size(moved, mask)
        return choose(self.make_params(u), moved[:, None], mask[:, None])[:, 0]

    def _changed(self, image: Tensor, u: Tensor) -> Tensor:
        changed = to_float(self.transform(image, u[:, :-1]))
        self._check_size(changed, image)
        return changed

    def _check_size(self, changed: Tensor, before: Tensor) -> None:
        if changed.shape != before.shape:
            raise UserError(
                f"RandomApply.transform: {type(self.transform).__name__} makes {list(changed.shape[-2:])} of images of "
                f"{list(before.shape[-2:])}, so that a batch could not hold both; apply it always."
            )
