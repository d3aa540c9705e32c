"""Colours of class numbers."""

from __future__ import annotations

import numpy as np

GOLDEN = 0.618033988749895  # steps of this share of the circle never come close to each other


def colours(count: int) -> np.ndarray:
    """Return red, green and blue of the numbers 0 to count - 1: (count, 3) uint8.

    Hues go round in golden steps, brightness in three; 0 is black, as background mostly is.
    """
    numbers = np.arange(count)
    hue, value = (numbers * GOLDEN) % 1.0, 1.0 - 0.22 * (numbers % 3)
    # HSV to RGB: channel n is v - v s clip(min(k, 4 - k), 0, 1), k = (n + 6 h) mod 6
    places = (np.array([5, 3, 1]) + 6 * hue[:, None]) % 6
    found = value[:, None] * (1 - 0.75 * np.minimum(places, 4 - places).clip(0, 1))
    found[0] = 0
    rounded: np.ndarray = (255 * found).round().astype(np.uint8)
    return rounded
