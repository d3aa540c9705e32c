"""Outputs and targets whose calibration is known."""

from __future__ import annotations

import torch
from torch import Tensor


def logits_and_classes(
    count: int, classes: int, sharpness: float, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Draw y from softmax(z), and give logits ``sharpness`` z: T = ``sharpness`` is right."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=generator)
    target = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    return sharpness * logits, target


def logits_and_flags(count: int, sharpness: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw y_c from sigmoid(z_c), and give logits ``sharpness``_c z_c."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, len(sharpness), generator=generator)
    target = (torch.rand(logits.shape, generator=generator) < logits.sigmoid()).float()
    return sharpness * logits, target


def numbers(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Draw y from N(m, s^2), m and s by row: (N,) each of m, s and y."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(count, generator=generator)
    scale = torch.rand(count, generator=generator) + 0.5
    return mean, scale, mean + scale * torch.randn(count, generator=generator)
