import pytest
import torch

from toolkit.errors import UserError
from toolkit.nn.image_input import check_images


def test__grey_images_for_a_colour_network_name_the_remedy():
    with pytest.raises(UserError, match=r"in_channels.*3.*got images with 1.*set data\.init_args\.in_channels to 3"):
        check_images(torch.zeros(2, 1, 8, 8), in_channels=3)


def test__wrong_size_names_both_sizes_in_height_width_order():
    with pytest.raises(UserError, match=r"image_size.*\[8, 6\].*got images of \[6, 8\].*image_size=\(6, 8\)"):
        check_images(torch.zeros(2, 3, 6, 8), in_channels=3, image_size=(8, 6))


def test__image_without_batch_dimension_raises():
    with pytest.raises(UserError, match=r"\(B, 3, H, W\).*\(3, 8, 8\).*image\[None\]"):
        check_images(torch.zeros(3, 8, 8), in_channels=3)


def test__any_size_passes_where_none_is_required():
    check_images(torch.zeros(2, 3, 5, 9), in_channels=3)
