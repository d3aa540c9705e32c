"""Masks and depths are read as their files mean them, and stay on their pictures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2  # type: ignore[import-untyped]  # no types

from datamodules.label_maps import ClassMap, DepthMap, require_image_size, resize_nearest
from datamodules.modalities.image import (
    augment,
    augment_map,
    require_moves_maps,
    resize,
    transform_with_maps,
)
from pollinate.errors import PollinateError, UsageError


def png(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if options.pop("palette", False):
        image = Image.fromarray(pixels, mode="P")
        image.putpalette([7] * 768)
    image.save(file, format="PNG", **options)
    return file.getvalue()


KINDS = np.array([[0, 1], [2, 255]], np.uint8)


@pytest.mark.parametrize(
    "cell", [png(KINDS), png(KINDS, palette=True), KINDS, png(KINDS.astype(np.uint16))]
)
def test_a_mask_is_its_numbers_whatever_file_holds_it(cell: Any) -> None:
    assert ClassMap().read(cell).tolist() == [[1, 2], [3, 0]]


def test_depth_is_in_the_user_s_unit(tmp_path: Path) -> None:
    millimetres = png(np.array([[0, 1500]], np.uint16))
    assert DepthMap(0.001).read(millimetres).tolist() == [[0.0, 1.5]]
    np.save(tmp_path / "a.npy", np.array([[np.nan, 1.5, np.inf]]))
    assert DepthMap(0.001).read(tmp_path / "a.npy").tolist() == [[0.0, 1.5, 0.0]]


def test_a_map_lies_on_its_picture_as_a_person_sees_it() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the right
    turned = png(np.zeros((2, 3), np.uint8), exif=exif)
    assert require_image_size(np.zeros((3, 2)), turned).shape == (3, 2)
    with pytest.raises(PollinateError, match="2 x 3 pixels, got 3 x 2; save it in that size"):
        require_image_size(np.zeros((2, 3)), turned)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_nearest_takes_the_pixel_at_the_centre(old: int, wide: int, new: int, tall: int) -> None:
    values = np.arange(old * wide, dtype=np.float32).reshape(old, wide)
    found = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], (new, tall), mode="nearest-exact"
    )
    centres = (np.arange(new) + 0.5) * old / new
    if not np.any(np.isclose(centres % 1, 0)):  # between two pixels either is right
        assert resize_nearest(values, (new, tall))[:, 0].tolist() == found[0, 0, :, 0].tolist()
    assert np.array_equal(resize_nearest(values, (old, wide)), values)


def test_a_mask_keeps_its_place_when_pictures_are_resized() -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 20:40] = 200
    picture = resize(mask[None], (12, 8), 1)[0, 0].numpy()
    assert ((resize_nearest(mask, (12, 8)) > 100) == (picture > 100)).mean() > 0.95


def blocks(count: int = 6, side: int = 16) -> torch.Tensor:
    """Pictures of one bright rectangle each: (N, 1, side, side)."""
    random = np.random.default_rng(0)
    found = torch.zeros(count, 1, side, side, dtype=torch.uint8)
    for image in found:
        y, x = random.integers(2, side - 6, 2)
        image[:, y : y + 4, x : x + 5] = 255
    return found


FLIP_CROP = v2.Compose(
    [v2.RandomCrop([16, 16], padding=4, padding_mode="reflect"), v2.RandomHorizontalFlip()]
)


@pytest.mark.parametrize(
    "transform", [v2.RandomHorizontalFlip(), FLIP_CROP, v2.RandomAffine(0, (0.3, 0.3))]
)
def test_masks_and_depths_move_with_their_pictures(transform: Any) -> None:
    pictures, rows = blocks(), np.arange(6)
    maps = {"kind": (pictures[:, 0] > 0).to(torch.int16), "depth": pictures[:, 0] / 255}
    moved, on_them = transform_with_maps(pictures, transform, 1, rows * 0, rows, maps)
    assert not torch.equal(moved, pictures)
    assert torch.equal(on_them["kind"] > 0, moved[:, 0] > 0)
    assert torch.equal(on_them["depth"], on_them["kind"].float())
    assert on_them["kind"].dtype == torch.int16
    again, _ = transform_with_maps(pictures, transform, 1, rows * 0, rows, {})
    assert torch.equal(moved, again)  # a map changes nothing of its picture's own chance


def test_colours_leave_masks_alone() -> None:
    maps = {"kind": torch.randint(0, 3, (2, 8, 8), dtype=torch.int16)}
    pictures = torch.randint(0, 255, (2, 3, 8, 8), dtype=torch.uint8)
    jitter = v2.ColorJitter(0.5, 0.5)
    moved, found = transform_with_maps(pictures, jitter, 0, np.zeros(2), np.arange(2), maps)
    assert torch.equal(found["kind"], maps["kind"]) and not torch.equal(moved, pictures)


def test_small_moves_are_the_same_for_pictures_and_maps() -> None:
    pictures = blocks(20).float() / 255
    maps = (pictures[:, 0] > 0.5).to(torch.int16) + 1
    draws, how = torch.rand(20, 5), {"shift": 3.0, "rotate": 20.0, "scale": 0.2, "flip": 0.5}
    moved, found = augment(pictures, draws, **how)[:, 0], augment_map(maps, draws, **how)
    sure = (moved < 0.2) | (moved > 0.8)  # edges are between two pixels
    inside = found > 0  # what comes into view is not labelled
    assert ((found == 2) == (moved > 0.5))[sure & inside].float().mean() > 0.99
    assert (moved[~inside] < 0.6).all() and 0 < (~inside).float().mean() < 0.3


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (v2.RandAugment(), "RandAugment can't move masks and depths"),
        (v2.RandomAffine(0, (0.5, 0.5), fill=127), "puts 127 where a mask ends"),
        (lambda image: image, "can't move masks"),
    ],
)
def test_what_can_not_move_masks_is_refused(transform: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        require_moves_maps(transform, (3, 8, 8))
