"""Picture files of unusual kinds become the pixels that a person sees."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from datamodules.modalities.image import ImageModality, decode
from pipeline.errors import PollinateError

RAMP = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
ORIENTATION = 0x0112  # of EXIF


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def test_a_photo_is_turned_as_its_camera_noted() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the camera was held upright: turn clockwise
    found = decode(saved(Image.fromarray(RAMP), exif=exif))
    assert np.array_equal(found, np.rot90(RAMP, k=-1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_become_8(kind: str) -> None:
    found = decode(saved(Image.fromarray(RAMP.astype(np.uint16) * 257), kind))
    assert found.dtype == np.uint8
    assert np.array_equal(found, RAMP)


def test_32_bits_are_taken_as_8_or_16_by_their_values() -> None:
    for factor in (1, 257):
        found = decode(saved(Image.fromarray(RAMP.astype(np.int32) * factor), "TIFF"))
        assert np.array_equal(found, RAMP)


def test_what_is_transparent_is_white() -> None:
    pixels = np.zeros((1, 2, 4), np.uint8)
    pixels[0, 1] = (10, 20, 30, 255)
    expected = [[[255, 255, 255], [10, 20, 30]]]
    assert decode(saved(Image.fromarray(pixels))).tolist() == expected
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((1, 0), 1)
    assert decode(saved(palette, transparency=0)).tolist() == expected


def test_an_animation_is_its_first_picture() -> None:
    first, second = Image.new("RGB", (2, 2), "red"), Image.new("RGB", (2, 2), "blue")
    found = decode(saved(first, "GIF", save_all=True, append_images=[second]))
    assert found.shape == (2, 2, 3)
    assert (found == (255, 0, 0)).all()


def test_print_colours_become_screen_colours() -> None:
    found = decode(saved(Image.new("CMYK", (2, 2), (0, 0, 0, 0)), "JPEG"))
    assert found.shape == (2, 2, 3)
    assert (found > 250).all()


def test_black_and_white_has_one_channel() -> None:
    assert decode(saved(Image.new("1", (2, 2), 1))).tolist() == [[255, 255], [255, 255]]


@pytest.mark.parametrize("cell", [7, [[0, 1], [1, 0]], {"pixels": 1}])
def test_what_is_no_picture_is_named(cell: object) -> None:
    with pytest.raises(PollinateError, match="must be a picture's path or content, got "):
        decode(cell)  # type: ignore[arg-type]  # that is the point


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
