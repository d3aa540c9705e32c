"""Random numbers as a pure function of counters: no state, so nothing to resume."""

from __future__ import annotations

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd


def uniforms(seed: int, *counters: np.ndarray, count: int) -> np.ndarray:
    """Draw ``count`` numbers in [0, 1) for every row: (N, count) float64.

    Row i's numbers depend on (seed, counters[0][i], counters[1][i], ...) alone, and number j
    doesn't depend on ``count``. With m the mixer of SplitMix64 and g its increment,

        k_0 = m(seed + g),   k_c = m((k_(c-1) xor counter_c) + g),   u_j = m(k + (j + 1) g) / 2^64

    so that row i has the SplitMix64 stream that starts at k. Source: Steele, Lea & Flood 2014,
    "Fast splittable pseudorandom number generators", figure 17 with Stafford's mixer 13.

    Args:
        seed: any integer; its lowest 64 bits count.
        counters: (N,) integers each, such as the epoch and the row; at least one.
        count: numbers a row, >= 0.
    """
    key = _mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64) + _GAMMA)
    for counter in counters:
        key = _mix((key ^ np.asarray(counter).astype(np.uint64)) + _GAMMA)
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    bits = _mix(key[:, None] + steps)
    numbers: np.ndarray = np.multiply(bits >> np.uint64(11), 2.0**-53, dtype=np.float64)
    return numbers


def _mix(bits: np.ndarray) -> np.ndarray:
    """Scramble 64-bit words, one to one; products and sums are modulo 2^64."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = bits ^ (bits >> np.uint64(31))
    return mixed
