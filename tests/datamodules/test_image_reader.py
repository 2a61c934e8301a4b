from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.image_reader import ImageReader, UnreadableImageError, existing, image_files
from toolkit.errors import UserError


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def test_pixels_come_channels_first_and_exact(tmp_path: Path) -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    read = ImageReader((4, 5), 3)(save(tmp_path / "a.png", pixels))
    assert torch.equal(read, torch.from_numpy(pixels).permute(2, 0, 1))


def test_proportions_are_kept_and_the_middle_is_cut_out(tmp_path: Path) -> None:
    pixels = np.zeros((4, 12, 3), dtype=np.uint8)
    pixels[:, 4:8] = 200
    assert (ImageReader((4, 4), 3)(save(tmp_path / "a.png", pixels)) == 200).all()


def test_grey_becomes_rgb_and_rgb_grey(tmp_path: Path) -> None:
    grey = save(tmp_path / "grey.png", np.full((4, 4), 77, dtype=np.uint8))
    assert (ImageReader((4, 4), 3)(grey) == 77).all()
    red = save(tmp_path / "red.png", np.full((4, 4, 3), [255, 0, 0], dtype=np.uint8))
    assert ImageReader((4, 4), 1)(red).unique().tolist() == [76]  # ITU-R 601: 0.299 of 255


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    deep = save(tmp_path / "deep.png", np.full((4, 4), 0x8000, dtype=np.uint16))
    assert ImageReader((4, 4), 1)(deep).unique().tolist() == [128]

    (tmp_path / "deep.pgm").write_bytes(b"P5 4 4 65535\n" + np.full((4, 4), 0x8000, dtype=">u2").tobytes())
    assert ImageReader((4, 4), 1)(tmp_path / "deep.pgm").unique().tolist() == [128]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_values_without_a_known_white_are_refused(tmp_path: Path, kind: type) -> None:
    path = save(tmp_path / "a.tif", np.arange(16).reshape(4, 4).astype(kind))
    with pytest.raises(UnreadableImageError, match=r"cannot read '.*a\.tif' .*convert it to 8 or 16 bits"):
        ImageReader((4, 4), 1)(path)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(np.repeat(np.array([[0, 255]], dtype=np.uint8), 2, axis=0))
    tag = image.getexif()
    tag[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=tag)
    assert ImageReader((2, 2), 1)(tmp_path / "a.png")[0].tolist() == [[255, 0], [255, 0]]


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "cut.jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(UnreadableImageError, match=r"cannot read '.*cut\.jpg' \((?i:.*truncated)"):
        ImageReader((64, 64), 3)(path)


def test_only_images_are_found_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/1.jpg", "a.jpeg", "c.jfif", ".hidden.png", "notes.txt", ".cache/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [p.relative_to(tmp_path).as_posix() for p in image_files(tmp_path)]
    assert found == ["a.jpeg", "c.jfif", "b/1.jpg", "b/2.PNG"]


def test_a_missing_path_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match=r"root: no such file or folder: .*imags'\. Did you mean .*images'"):
        existing(tmp_path / "imags", "root")


@pytest.mark.parametrize(("size", "channels"), [((0, 4), 3), ((4, 4), 2)])
def test_bad_sizes_are_refused(size: tuple[int, int], channels: int) -> None:
    with pytest.raises(UserError, match="need"):
        ImageReader(size, channels)
