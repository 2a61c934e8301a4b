import torch

from toolkit.losses.masked_patches import masked_patch_loss

PATCHES = torch.tensor(
    [[[0.0, 2.0], [5.0, 5.0], [1.0, 3.0]], [[1.0, 1.0], [0.0, 4.0], [2.0, 2.0]]], dtype=torch.float64
)
HIDDEN = torch.tensor([[True, False, True], [False, True, False]])


def test_matches_hand_computed_values() -> None:
    prediction = torch.zeros_like(PATCHES)
    loss = masked_patch_loss(prediction, PATCHES, HIDDEN, normalize=False)
    torch.testing.assert_close(loss, torch.tensor([((0 + 4) / 2 + (1 + 9) / 2) / 2, (0 + 16) / 2], dtype=torch.float64))


def test_normalised_patches_have_variance_one() -> None:
    loss = masked_patch_loss(torch.zeros_like(PATCHES), PATCHES, HIDDEN)
    # the two values of a patch stand sqrt(2)/2 deviations beside their mean (variance with n - 1)
    torch.testing.assert_close(loss, torch.tensor([0.5, 0.5], dtype=torch.float64), rtol=1e-5, atol=0)


def test_normalised_loss_ignores_brightness_and_contrast() -> None:
    prediction = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, b = (masked_patch_loss(prediction, patches, HIDDEN) for patches in (PATCHES, 3 * PATCHES + 1))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=0)


def test_visible_patches_count_nowhere() -> None:
    prediction = torch.zeros_like(PATCHES).requires_grad_()
    masked_patch_loss(prediction, PATCHES, HIDDEN).sum().backward()
    assert prediction.grad is not None
    assert not prediction.grad[~HIDDEN].any()
    assert prediction.grad[HIDDEN].any()
