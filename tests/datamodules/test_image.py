import numpy as np
import pytest
import torch

from datamodules import image

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
    assert image.normalise(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0.0, 1.0]


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
