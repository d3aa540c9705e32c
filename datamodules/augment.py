"""torchvision's random transforms, each image with random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.randomness import uniforms
from pipeline.errors import UsageError

Transform = Callable[..., Any]  # image (C, H, W) -> image; image, {name: Mask} -> both
Maps = Mapping[str, Tensor]  # {name: (n, H, W)}, one value for each pixel of an image
SEEDS = 1 << 62
TRIES, MARK = 32, 3  # how often a transform is tried out on a map, which holds this everywhere


def transform_rows(
    images: Tensor, transform: Transform, seed: int, passes: np.ndarray, rows: np.ndarray
) -> Tensor:
    """Transform each image by itself; see ``transform_with_maps``."""
    return transform_with_maps(images, transform, seed, passes, rows, {})[0]


def transform_with_maps(
    images: Tensor,
    transform: Transform,
    seed: int,
    passes: np.ndarray,
    rows: np.ndarray,
    maps: Maps,
) -> tuple[Tensor, Maps]:
    """Transform each image by itself, and its maps with it.

    Torch's generator, from which the transforms draw, is seeded by (seed, pass, row) for each image
    and is afterwards as it was.

    Args:
        images: (N, C, H, W) uint8, pixels.
        transform: of one image (C, H, W); keeps its size. Maps are given to it as torchvision's
            ``Mask``: they are moved as the image is, and keep their values.
        seed: of the run.
        passes: (N,) how often the data set had been gone through.
        rows: (N,) the images' numbers.
        maps: {name: (N, H, W)}.
    """
    seeds = (uniforms(seed, passes, rows, count=1)[:, 0] * SEEDS).astype(np.int64)
    done = []
    with torch.random.fork_rng(devices=[]):
        for place, own in enumerate(seeds.tolist()):
            torch.default_generator.manual_seed(own)
            on_it = {name: values[place] for name, values in maps.items()}
            done.append(moved(transform, images[place], on_it))
    pictures = torch.stack([image for image, _ in done])
    return pictures, {name: torch.stack([on_it[name] for _, on_it in done]) for name in maps}


def moved(transform: Transform, image: Tensor, maps: Maps) -> tuple[Tensor, Maps]:
    """Transform an image (C, H, W) and the maps (H, W) on it."""
    if not maps:
        return transform(image), {}
    # takes a moment, and most runs have no maps
    from torchvision.tv_tensors import Mask  # type: ignore[import-untyped]  # no types

    masks = {name: Mask(values) for name, values in maps.items()}
    found, masks = transform(image, masks)
    return found, {name: mask.as_subclass(Tensor) for name, mask in masks.items()}


def require_moves_maps(transform: Transform, shape: tuple[int, int, int]) -> None:
    """Try a transform out on an image of the given shape and a map.

    Raises:
        UsageError: it can't move maps, or gives them values that they never had.
    """
    name, image = type(transform).__name__, torch.full(shape, 128, dtype=torch.uint8)
    maps = {
        "classes": torch.full(shape[1:], MARK, dtype=torch.int16),
        "depth": torch.full(shape[1:], float(MARK)),
    }
    advice = "choose data.image.augment=flip, flip_crop or photo, or none: data.image.augment=null"
    with torch.random.fork_rng(devices=[]):
        for number in range(TRIES):
            torch.default_generator.manual_seed(number)
            try:
                _, found = moved(transform, image, maps)
            except (TypeError, ValueError) as error:
                raise UsageError(
                    f"data.image.augment: {name} can't move masks and depths with their pictures "
                    f"({error}); {advice}"
                ) from error
            for values in found.values():
                strange = values[(values != MARK) & (values != 0)]
                if len(strange):
                    raise UsageError(
                        f"data.image.augment: {name} puts {strange[0].item():g} where a mask ends, "
                        f"which would be a label; set its fill to 0, or {advice}"
                    )
