"""Images as tensors: size, scale, augmentation. Pure functions of whole batches."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

AUGMENT_UNIFORMS = 4  # random numbers an image: shift right, shift down, turn, size


def resize(images: np.ndarray, size: tuple[int, int], channels: int, chunk: int = 256) -> Tensor:
    """Bring images to one size: uint8 (N, H, W) or (N, H, W, 3) -> uint8 (N, channels, *size).

    Bilinear with anti-aliasing; colour becomes grey by ITU-R BT.601, grey is repeated.

    Args:
        images: pixels, 0 ... 255.
        size: height, width in pixels.
        channels: 1 grey, 3 colour.
        chunk: images at a time, which bounds the memory of the float copies.
    """
    parts = [
        _resize(torch.tensor(images[start : start + chunk]), size, channels)
        for start in range(0, len(images), chunk)
    ]
    return torch.cat(parts) if parts else torch.empty((0, channels, *size), dtype=torch.uint8)


def _resize(images: Tensor, size: tuple[int, int], channels: int) -> Tensor:
    pixels = images[:, None] if images.dim() == 3 else images.movedim(-1, 1)
    if channels == 1 and pixels.shape[1] == 3:
        weights = torch.tensor([0.299, 0.587, 0.114])
        grey = torch.einsum("nchw,c->nhw", pixels.float(), weights)
        pixels = grey[:, None].round().clamp(0, 255).to(torch.uint8)
    if pixels.shape[-2:] != size:
        # on whole numbers: several times as fast as on floats, and at most one off
        pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    return pixels.expand(-1, channels, -1, -1)


def normalise(images: Tensor) -> Tensor:
    """Scale pixels: uint8 0 ... 255 -> float32 0 ... 1, any shape."""
    return images.float() / 255


def augment(images: Tensor, uniforms: Tensor, shift: float, rotate: float, scale: float) -> Tensor:
    """Move, turn and resize each image at random, in one bilinear sampling: (N, C, H, W).

    Output pixel p shows input pixel R p / (1 + s) + t, about the centre; outside is 0.

    Args:
        images: (N, C, H, W) float.
        uniforms: (N, AUGMENT_UNIFORMS) in [0, 1): they alone decide, row by row.
        shift: largest |t| along each side, in pixels.
        rotate: largest turn, in degrees, either way.
        scale: largest |s|, in [0, 1).
    """
    grid = _grid(images, uniforms, shift, rotate, scale)
    return functional.grid_sample(images, grid, align_corners=False)


def augment_map(
    values: Tensor, uniforms: Tensor, shift: float, rotate: float, scale: float
) -> Tensor:
    """Move maps (N, H, W) as ``augment`` moves their images, with the value of the nearest pixel.

    Outside is 0.
    """
    planes = values[:, None].float()
    grid = _grid(planes, uniforms, shift, rotate, scale)
    moved = functional.grid_sample(planes, grid, mode="nearest", align_corners=False)
    return moved[:, 0].to(values.dtype)


def _grid(images: Tensor, uniforms: Tensor, shift: float, rotate: float, scale: float) -> Tensor:
    right, down, turn, size = (2 * uniforms - 1).to(images.dtype).unbind(dim=1)
    height, width = images.shape[-2:]
    angle, zoom = turn * math.radians(rotate), 1 / (1 + size * scale)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    # grid_sample measures in half-sides, so turning an oblong image mixes the two units
    rows = [
        torch.stack([cos, -sin * (height / width), right * (2 * shift / width)], dim=1),
        torch.stack([sin * (width / height), cos, down * (2 * shift / height)], dim=1),
    ]
    return functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
