"""Small convex problems of T unknowns."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

Array = NDArray[np.float64]
RIDGE = 1e-12  # added to the diagonal of C, which may be singular
LEAST_EIGENVALUE = 1e-7  # below, single precision can't tell gradients that cancel out
FAIR_STEPS = 50  # Newton's; about 12 are taken
EPSILON = float(np.finfo(np.float64).eps)


def lengths_and_cosines(gramian: Tensor | Array) -> tuple[Array, Array]:
    """Return (d, C) with G = diag(d) C diag(d), d > 0: (T,), (T, T)."""
    matrix = np.asarray(gramian, dtype=np.float64)
    lengths = np.sqrt(np.diagonal(matrix))
    cosines = matrix / lengths[:, None] / lengths[None, :]
    np.fill_diagonal(cosines, 1.0)
    return lengths, (cosines + cosines.T) / 2


def mean_length_one(gramian: Tensor) -> Tensor:
    """Return G divided by the mean of |g_t|^2: (T, T)."""
    return gramian / gramian.diagonal().mean()


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


def project_to_half_spaces(gramian: Array, lacking: Array) -> Array | None:
    """Return argmin_v v^T G v / 2 - lacking^T v over v >= 0: (T,); None if G v >= lacking has none.

    x + J^T v is the point nearest to x with g_t . (x + J^T v) >= b_t, where lacking = b - J x.
    """
    lengths, cosines = lengths_and_cosines(gramian)
    goal = lacking / lengths
    root = _root(cosines)
    unit = max(np.abs(goal).max(initial=0.0), np.finfo(np.float64).tiny)
    found = nnls(root, np.linalg.solve(root.T, goal / unit), maxiter=_steps(lengths))[0]
    if found.max(initial=0.0) > 1e5 or (goal / unit - cosines @ found).max(initial=0.0) > 1e-5:
        return None
    weights: Array = found * unit / lengths
    return weights


def fair(gramian: Tensor | Array, power: float) -> Array:
    """Return the w > 0 with G w = w^-power: (T,); power > 0.

    With u = D w it is C u = k u^-power for k = d^(power - 1), the minimum of the convex
    u^T C u / 2 - sum_t k_t phi(u_t), phi' = u^-power. Eigenvalues of C count as at least 1e-7, so
    that u stays bounded where gradients cancel out: sum_t u_t^2 <= T / 1e-7 for power 1. Newton's
    method, whose steps are halved while the slope along the line rises too much; it ends where
    both sides agree to 1e-12, or as well as they can be computed.
    """
    lengths, cosines = lengths_and_cosines(gramian)
    mean = np.exp(np.log(lengths).mean())
    k = (lengths / mean) ** (power - 1)
    values, vectors = np.linalg.eigh(cosines)
    matrix = (vectors * np.maximum(values, LEAST_EIGENVALUE)) @ vectors.T
    u = k ** (1 / (1 + power))
    u *= (k @ u ** (1 - power) / (u @ matrix @ u)) ** (1 / (1 + power))  # best of its multiples
    for _ in range(FAIR_STEPS):
        goal = k * u**-power
        slope = _slope(matrix, k, u, power)
        noise = 8 * EPSILON * len(u) * (np.abs(matrix) @ u + goal)
        if (np.abs(slope) <= 1e-12 * goal + noise).all():
            break
        step = np.linalg.solve(matrix + np.diag(power * goal / u), -slope)
        size = min(1.0, 0.99 / max(float((-step / u).max()), EPSILON))  # keeps u > 0
        most = abs(slope @ step) / 2
        while size > EPSILON and _slope(matrix, k, u + size * step, power) @ step > most:
            size /= 2
        u = u + size * step
    # u solves the problem of lengths divided by their mean: G w = w^-power scales with it
    found: Array = u / (lengths / mean) * mean ** (-2 / (1 + power))
    return found


def _slope(matrix: Array, k: Array, u: Array, power: float) -> Array:
    slope: Array = matrix @ u - k * u**-power
    return slope


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
