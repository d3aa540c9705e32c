"""Picture files of unusual kinds become the pixels that a person sees."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from datamodules.modalities.image import decode

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
