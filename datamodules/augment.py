"""torchvision's random transforms, each image with random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from datamodules.randomness import uniforms

Transform = Callable[[Tensor], Tensor]
SEEDS = 1 << 62


def transform_rows(
    images: Tensor, transform: Transform, seed: int, passes: np.ndarray, rows: np.ndarray
) -> Tensor:
    """Transform each image by itself: (N, C, H, W) uint8 -> (N, C, H, W) uint8.

    Torch's generator, from which the transforms draw, is seeded by (seed, pass, row) for each image
    and is afterwards as it was.

    Args:
        images: pixels.
        transform: of one image (C, H, W); keeps its size.
        seed: of the run.
        passes: (N,) how often the data set had been gone through.
        rows: (N,) the images' numbers.
    """
    seeds = (uniforms(seed, passes, rows, count=1)[:, 0] * SEEDS).astype(np.int64)
    with torch.random.fork_rng(devices=[]):
        done = []
        for image, own in zip(images, seeds.tolist(), strict=True):
            torch.default_generator.manual_seed(own)
            done.append(transform(image))
    return torch.stack(done)
