"""Small convex problems of T unknowns."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

Array = NDArray[np.float64]
RIDGE = 1e-12  # added to the diagonal of C, which may be singular
NEWTON_RIDGE = 1e-10  # of problems that have no finite solution where gradients cancel out


def lengths_and_cosines(gramian: Tensor | Array) -> tuple[Array, Array]:
    """Return (d, C) with G = diag(d) C diag(d), d > 0: (T,), (T, T)."""
    matrix = np.asarray(gramian, dtype=np.float64)
    lengths = np.sqrt(np.diagonal(matrix))
    cosines = matrix / lengths[:, None] / lengths[None, :]
    np.fill_diagonal(cosines, 1.0)
    return lengths, (cosines + cosines.T) / 2


def _root(cosines: Array) -> Array:
    """Return R with R^T R = C + ridge: (T, T)."""
    values, vectors = np.linalg.eigh(cosines)
    root: Array = np.sqrt(np.maximum(values, 0) + RIDGE)[:, None] * vectors.T
    return root


def min_norm(gramian: Tensor | Array) -> Array:
    """Return argmin_w w^T G w over the simplex w >= 0, sum_t w_t = 1: (T,).

    The conditions of v = argmin v^T G v / 2 - sum_t v_t over v >= 0 are those of w = v / sum v,
    and in u = D v it is the non-negative least squares problem |R u - R^-T (1 / d)|.
    """
    lengths, cosines = lengths_and_cosines(gramian)
    root = _root(cosines)
    inverse = lengths.min() / lengths  # any common factor of v cancels out
    target = np.linalg.solve(root.T, inverse)
    v = nnls(root, target, maxiter=_steps(lengths))[0] / lengths
    weights: Array = v / v.sum()
    return weights


def dual_cone(gramian: Tensor | Array, reference: Array) -> Array:
    """Return argmin_v v^T G v over v >= reference: (T,).

    J^T v is the projection of J^T reference onto {d : J d >= 0}.
    """
    lengths, cosines = lengths_and_cosines(gramian)
    root = _root(cosines)
    start = lengths * reference
    scale = max(np.abs(start).max(), np.finfo(np.float64).tiny)
    beyond = nnls(root, -root @ (start / scale), maxiter=_steps(lengths))[0]
    projected: Array = reference + beyond * scale / lengths
    return projected


def fair(gramian: Tensor | Array, power: float) -> Array:
    """Return the w > 0 with G w = w^-power: (T,); power > 0.

    With u = D w it is C u = k u^-power for k = d^(power - 1), the minimum of the convex
    u^T C u / 2 - sum_t k_t phi(u_t), phi' = u^-power, found by Newton's method with halved steps.
    """
    lengths, cosines = lengths_and_cosines(gramian)
    exponent = 1 / (1 + power)
    mean = np.exp(np.log(lengths).mean())
    k = (lengths / mean) ** (power - 1)
    matrix = cosines + NEWTON_RIDGE * np.eye(len(k))
    u = k**exponent
    for _ in range(200):
        slope = matrix @ u - k * u**-power
        step = np.linalg.solve(matrix + np.diag(power * k * u ** (-power - 1)), slope)
        relative = float(np.abs(step / u).max())
        u = u - _step_size(matrix, k, u, power, step, slope @ step) * step
        if relative <= 1e-12:
            break
    # u solves the problem of lengths divided by their mean: G w = w^-power scales with it
    found: Array = u / (lengths / mean) * mean ** (-2 / (1 + power))
    return found


def _step_size(
    matrix: Array, k: Array, u: Array, power: float, step: Array, decrement: float
) -> float:
    """Return the share of Newton's step that keeps u > 0 and lowers the value."""
    factor = min(1.0, 0.99 / max(float((step / u).max()), 1e-300))
    before = _fair_value(matrix, k, u, power)
    noise = 1e-12 * abs(before)  # of the value itself; near the end a step gains less
    while factor > 1e-10:
        value = _fair_value(matrix, k, u - factor * step, power)
        if value <= before - 1e-4 * factor * decrement + noise:
            break
        factor /= 2
    return factor


def _fair_value(matrix: Array, k: Array, u: Array, power: float) -> float:
    phi = np.log(u) if power == 1 else u ** (1 - power) / (1 - power)
    return float(u @ matrix @ u / 2 - k @ phi)


def _steps(lengths: Array) -> int:
    return 30 * len(lengths) + 100


def project_to_simplex(point: Tensor) -> Tensor:
    """Return the nearest w with w >= 0 and sum_t w_t = 1: (T,).

    Source: Duchi et al. 2008, "Efficient Projections onto the l1-Ball", figure 1.
    """
    ordered = point.sort(descending=True).values
    counts = torch.arange(1, len(point) + 1, dtype=point.dtype)
    thresholds = (ordered.cumsum(0) - 1) / counts
    return (point - thresholds[(ordered > thresholds).sum() - 1]).clamp(min=0)
