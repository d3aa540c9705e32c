"""Images: resizing, decoding, augmentation."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.modalities import image
from datamodules.modalities.image import ImageModality, decode_image, transform_rows
from pollinate.errors import PollinateError
from tests.rows.groups import rows
from tests.rows.row import Row, ids

GREY = np.arange(2 * 6 * 8, dtype=np.uint8).reshape(2, 6, 8)


def centre(size: float) -> torch.Tensor:
    """Uniforms that mean: no shift, no turn, the given size."""
    return torch.tensor([[0.5, 0.5, 0.5, size]])


def test_resize_keeps_images_of_the_right_size() -> None:
    assert np.array_equal(image.resize(GREY, (6, 8), channels=1)[:, 0].numpy(), GREY)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("colour", [False, True])
def test_resize_shapes(channels: int, colour: bool) -> None:
    images = np.stack([GREY] * 3, axis=-1) if colour else GREY
    resized = image.resize(images, (12, 10), channels, chunk=1)
    assert resized.shape == (2, channels, 12, 10)
    assert resized.dtype == torch.uint8


def test_resize_keeps_a_constant_and_no_images() -> None:
    flat = np.full((1, 5, 5), 200, dtype=np.uint8)
    assert image.resize(flat, (9, 3), channels=3).unique().tolist() == [200]
    assert image.resize(GREY[:0], (9, 3), channels=3).shape == (0, 3, 9, 3)


def test_colour_to_grey() -> None:
    red = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    red[..., 0] = 255
    assert image.resize(red, (2, 2), channels=1).unique().tolist() == [76]  # 0.299 * 255


def test_normalise() -> None:
    assert image.normalize(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0.0, 1.0]


def test_augment_in_the_middle_is_the_identity() -> None:
    images = torch.rand(1, 3, 6, 8)
    moved = image.augment(images, centre(0.5), shift=2, rotate=30, scale=0.2)
    torch.testing.assert_close(moved, images, atol=1e-5, rtol=0)


def test_shift_by_whole_pixels() -> None:
    images = torch.rand(1, 1, 6, 8)
    chances = torch.tensor([[1.0, 0.5, 0.5, 0.5]])
    moved = image.augment(images, chances, shift=2, rotate=0, scale=0)
    torch.testing.assert_close(moved[..., :-2], images[..., 2:], atol=1e-5, rtol=0)
    assert moved[..., -2:].abs().max() < 1e-5


def test_quarter_turn_of_an_oblong_image() -> None:
    images = torch.zeros(1, 1, 5, 9)
    images[0, 0, 2, 3:6] = 1  # a short level bar in the centre
    chances = torch.tensor([[0.5, 0.5, 1.0, 0.5]])
    moved = image.augment(images, chances, shift=0, rotate=90, scale=0)
    expected = torch.zeros(1, 1, 5, 9)
    expected[0, 0, 1:4, 4] = 1
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


def test_larger_size_covers_more() -> None:
    images = torch.zeros(1, 1, 20, 20)
    images[..., 5:15, 5:15] = 1
    larger = image.augment(images, centre(1.0), shift=0, rotate=0, scale=0.5).sum()
    assert larger == pytest.approx(100 * 1.5**2, rel=0.05)


def test_rows_are_apart() -> None:
    images, chances = torch.rand(5, 1, 8, 8), torch.rand(5, image.AUGMENT_UNIFORMS)
    options = {"shift": 2.0, "rotate": 15.0, "scale": 0.1}
    whole = image.augment(images, chances, **options)
    single = image.augment(images[3:4], chances[3:4], **options)
    torch.testing.assert_close(whole[3:4], single, atol=1e-6, rtol=0)


NONE = np.zeros(5, np.int64)
each = pytest.mark.parametrize("row", rows("augment"), ids=ids)


def images(row: Row) -> torch.Tensor:
    return torch.randint(
        256, row.given, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@each
def test_row(row: Row) -> None:
    given, transform = images(row), row.build()
    found = [
        transform_rows(given, transform, 0, NONE + number, np.arange(5)) for number in range(8)
    ]
    assert all(one.shape == given.shape and one.dtype == torch.uint8 for one in found)
    changed = torch.stack([(one != given).flatten(1).any(dim=1) for one in found])
    assert changed.all() if row.expected else changed.any()


@each
def test_an_image_s_transform_depends_on_seed_pass_and_row_alone(row: Row) -> None:
    given, transform = images(row), row.build()
    together = transform_rows(given, transform, 3, NONE, np.arange(5))
    for number in range(5):
        own = slice(number, number + 1)
        alone = transform_rows(given[own], transform, 3, NONE[own], np.arange(5)[own])
        assert torch.equal(alone[0], together[number])


@each
def test_the_run_s_random_numbers_are_left_alone(row: Row) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    transform_rows(images(row), row.build(), 0, NONE, np.arange(5))
    assert torch.equal(torch.get_rng_state(), before)


RAMP = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
ORIENTATION = 0x0112  # of EXIF


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def test_a_photo_is_turned_as_its_camera_noted() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the camera was held upright: turn clockwise
    found = decode_image(saved(Image.fromarray(RAMP), exif=exif))
    assert np.array_equal(found, np.rot90(RAMP, k=-1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_become_8(kind: str) -> None:
    found = decode_image(saved(Image.fromarray(RAMP.astype(np.uint16) * 257), kind))
    assert found.dtype == np.uint8
    assert np.array_equal(found, RAMP)


def test_32_bits_are_taken_as_8_or_16_by_their_values() -> None:
    for factor in (1, 257):
        found = decode_image(saved(Image.fromarray(RAMP.astype(np.int32) * factor), "TIFF"))
        assert np.array_equal(found, RAMP)


def test_what_is_transparent_is_white() -> None:
    pixels = np.zeros((1, 2, 4), np.uint8)
    pixels[0, 1] = (10, 20, 30, 255)
    expected = [[[255, 255, 255], [10, 20, 30]]]
    assert decode_image(saved(Image.fromarray(pixels))).tolist() == expected
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((1, 0), 1)
    assert decode_image(saved(palette, transparency=0)).tolist() == expected


def test_an_animation_is_its_first_picture() -> None:
    first, second = Image.new("RGB", (2, 2), "red"), Image.new("RGB", (2, 2), "blue")
    found = decode_image(saved(first, "GIF", save_all=True, append_images=[second]))
    assert found.shape == (2, 2, 3)
    assert (found == (255, 0, 0)).all()


def test_print_colours_become_screen_colours() -> None:
    found = decode_image(saved(Image.new("CMYK", (2, 2), (0, 0, 0, 0)), "JPEG"))
    assert found.shape == (2, 2, 3)
    assert (found > 250).all()


def test_black_and_white_has_one_channel() -> None:
    assert decode_image(saved(Image.new("1", (2, 2), 1))).tolist() == [[255, 255], [255, 255]]


@pytest.mark.parametrize("cell", [7, [[0, 1], [1, 0]], {"pixels": 1}])
def test_what_is_no_picture_is_named(cell: object) -> None:
    with pytest.raises(PollinateError, match="must be a picture's path or content, got "):
        decode_image(cell)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (np.full((2, 4, 4), 0.5), "float64 4 x 4"),  # 0 ... 1: as whole numbers they are all 0
        (np.ones((2, 4, 4), np.int64), "int64 4 x 4"),
        (np.ones((2, 4, 4), bool), "bool 4 x 4"),
        (np.ones((2, 3, 4, 4), np.uint8), "uint8 3 x 4 x 4"),
        (np.ones((2, 4, 4, 4), np.uint8), "uint8 4 x 4 x 4"),
        (np.ones((2, 16), np.uint8), "uint8 16"),
        (np.ones(2, np.uint8), "uint8 one number"),
        (np.array(["a.png", "b.png"]), "<U5 one number"),
    ],
)
def test_arrays_that_are_no_pictures_are_named(pixels: np.ndarray, found: str) -> None:
    prepared = ImageModality([4, 4]).prepare(pixels)
    assert prepared.errors.keys() == {0, 1}
    assert f"got {found}; convert the array" in prepared.errors[0]
    assert not prepared.store.has.any()
