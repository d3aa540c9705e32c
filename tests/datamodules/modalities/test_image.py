"""Images: resizing, decoding, augmentation."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.label_maps import read_map
from datamodules.modalities import image
from datamodules.modalities.image import ImageModality, decode_image, transform_rows
from pollinate.errors import PollinateError, UsageError
from tests.rows.groups import rows
from tests.rows.row import Row, ids

GREY = np.arange(2 * 6 * 8, dtype=np.uint8).reshape(2, 6, 8)


def centre(size: float) -> torch.Tensor:
    """Uniforms that mean: no shift, no turn, the given size."""
    return torch.tensor([[0.5, 0.5, 0.5, size, 0.5]])


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
    chances = torch.tensor([[1.0, 0.5, 0.5, 0.5, 0.5]])
    moved = image.augment(images, chances, shift=2, rotate=0, scale=0)
    torch.testing.assert_close(moved[..., :-2], images[..., 2:], atol=1e-5, rtol=0)
    assert moved[..., -2:].abs().max() < 1e-5


def test_quarter_turn_of_an_oblong_image() -> None:
    images = torch.zeros(1, 1, 5, 9)
    images[0, 0, 2, 3:6] = 1  # a short level bar in the centre
    chances = torch.tensor([[0.5, 0.5, 1.0, 0.5, 0.5]])
    moved = image.augment(images, chances, shift=0, rotate=90, scale=0)
    expected = torch.zeros(1, 1, 5, 9)
    expected[0, 0, 1:4, 4] = 1
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


def test_larger_size_covers_more() -> None:
    images = torch.zeros(1, 1, 20, 20)
    images[..., 5:15, 5:15] = 1
    larger = image.augment(images, centre(1.0), shift=0, rotate=0, scale=0.5).sum()
    assert larger == pytest.approx(100 * 1.5**2, rel=0.05)


def test_a_flip_changes_left_and_right_of_its_share() -> None:
    images, chances = torch.rand(3, 2, 5, 9), torch.full((3, image.AUGMENT_UNIFORMS), 0.5)
    chances[:, -1] = torch.tensor([0.2, 0.6, 0.4])
    moved = image.augment(images, chances, shift=0, rotate=0, scale=0, flip=0.5)
    expected = torch.stack([images[0].flip(-1), images[1], images[2].flip(-1)])
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)
    whole = torch.randint(9, (3, 5, 9), dtype=torch.int16)
    maps = image.augment_map(whole, chances, shift=0, rotate=0, scale=0, flip=0.5)
    assert torch.equal(maps, torch.stack([whole[0].flip(-1), whole[1], whole[2].flip(-1)]))


def test_a_flip_s_share_is_checked() -> None:
    assert ImageModality(flip=0.5).random_keys() == {"data.image.flip": 0.5}
    with pytest.raises(UsageError, match=r"data.image.flip must be in \[0, 1\], got 2"):
        ImageModality(flip=2.0)


def test_rows_are_apart() -> None:
    images, chances = torch.rand(5, 1, 8, 8), torch.rand(5, image.AUGMENT_UNIFORMS)
    options = {"shift": 2.0, "rotate": 15.0, "scale": 0.1, "flip": 0.5}
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


# what RAMP looks like with other numbers: (of which type, of black and white)
NUMBERS = [
    (np.uint16, (0.0, 65535.0)),
    (np.uint16, (0.0, 4080.0)),  # about 12 bits, as cameras have them
    (np.int32, (0.0, 255.0)),
    (np.int32, (-1000.0, 1040.0)),
    (np.float32, (0.0, 1.0)),
    (np.float32, (-1.0, 1.0)),
    (np.float32, (1.0, 0.0)),  # as X-rays: white is the lower one
]
FORMS = {
    "a file": lambda values: saved(Image.fromarray(values), "TIFF"),
    "a picture": Image.fromarray,
    "an array": lambda values: values,
    "a tensor": torch.from_numpy,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("dtype", "value_range"), NUMBERS)
def test_the_range_of_values_is_the_column_s(form: str, dtype: type, value_range: Any) -> None:
    black, white = value_range
    values = (RAMP / 255 * (white - black) + black).astype(dtype)
    given = FORMS[form](values)
    found = decode_image(given, value_range)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - RAMP).max() <= (dtype != np.float32)
    if form != "a tensor" or dtype != np.float32 or -1.0 in value_range:
        with pytest.raises(PollinateError, match=r"data\.image\.value_range=\["):
            decode_image(given)
    narrow = black, black + (white - black) / 2
    with pytest.raises(PollinateError, match=r"must hold numbers from .* widen data\.image\.value"):
        decode_image(given, narrow)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_number_is_refused(form: str) -> None:
    values = np.full((2, 3), np.nan, np.float32)
    with pytest.raises(PollinateError, match="got nan to nan"):
        decode_image(FORMS[form](values), (0.0, 1.0))


def test_a_column_has_one_range_whatever_its_pictures_hold() -> None:
    dark, light = np.full((4, 4), 0.25, np.float32), np.full((4, 4), 0.75, np.float32)
    given = ImageModality([4, 4], channels=1, value_range=[0, 1])
    assert [p[0, 0, 0] for p in given.prepare(np.stack([dark, light])).store.pixels] == [64, 191]
    mixed = [dark, saved(Image.fromarray(light), "TIFF"), np.full((4, 4), 7, np.uint8)]
    assert [p[0, 0, 0] for p in given.prepare(mixed).store.pixels] == [64, 191, 7]
    errors = ImageModality([4, 4]).prepare(mixed).errors
    assert errors.keys() == {0, 1}


@pytest.mark.parametrize("value_range", [[0], [0, 1, 2], [1, 1], [0, float("nan")]])
def test_a_range_is_two_numbers(value_range: list[float]) -> None:
    with pytest.raises(UsageError, match=r"value_range must be \[black, white\]"):
        ImageModality(value_range=value_range)


def test_colours_of_16_bits_are_not_cut_unasked() -> None:
    file = b"P6 1 1 65535\n" + bytes([255, 255, 128, 0, 0, 0])  # scaled by what it says itself
    assert decode_image(file).tolist() == [[[255, 128, 0]]]
    wide = png_of_16_bits(0x80FF)
    with pytest.raises(PollinateError, match=r"only the upper 8 .*value_range=\[0, 65535\]"):
        decode_image(wide)
    with pytest.raises(PollinateError, match="only the upper 8"):
        decode_image(wide, (0.0, 4095.0))
    assert decode_image(wide, (0.0, 65535.0)).tolist() == [[[128, 128, 128]]]


def png_of_16_bits(value: int) -> bytes:
    """A pixel of colour, which Pillow can't write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content).to_bytes(4)
        return len(content).to_bytes(4) + kind + content + checksum

    header = (1).to_bytes(4) * 2 + bytes([16, 2, 0, 0, 0])
    pixel = zlib.compress(b"\0" + value.to_bytes(2) * 3)
    parts = [(b"IHDR", header), (b"IDAT", pixel), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


def test_what_another_program_would_draw_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.check_call", run)
    monkeypatch.setattr("subprocess.Popen", run)
    with pytest.raises(PollinateError, match="is not an image"):
        decode_image(EPS)
    with Image.open(io.BytesIO(EPS)) as opened, pytest.raises(PollinateError, match="got EPS"):
        decode_image(opened)


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000", "PPM", "QOI", "ICO", "TGA", "WEBP", "BMP"])
def test_other_formats_of_pixels_are_read(kind: str) -> None:
    found = decode_image(saved(Image.new("RGB", (16, 16), "red"), kind))
    assert found.shape == (16, 16, 3)
    assert np.abs(found.astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("decode", [decode_image, read_map])
def test_what_is_no_ordinary_file_is_named(decode: Any, tmp_path: Path) -> None:
    for name in ("pipe.png", "pipe.npy"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(PollinateError, match="must be an ordinary file, it is a named pipe"):
            decode(tmp_path / name)
    with pytest.raises(PollinateError, match="it is a device"):
        decode(Path("/dev/zero"))


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
