"""TSV-M: the leading singular vectors of each task, made orthogonal to those of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.merging.task_matrices import TaskMatrixMerge


class TSVM(TaskMatrixMerge):
    """theta = theta_0 + s U' S V'^T, where U = [U_1 ... U_T], S = diag(S_1, ..., S_T), V likewise.

    U_i, S_i, V_i are the leading min(out, in) / T singular vectors and values of task matrix D_i,
    at least one, and U' = P Q^T of the SVD U = P E Q^T: the nearest matrix to U with orthogonal
    columns, V' likewise. Source: Gargiulo et al. 2025, "Task singular vectors", algorithm 1.
    Deviation: singular vectors that come from the rounding of the weights, as those beyond an
    adapter's rank do, take no part.

    Args:
        scale: s; if several, the best on validation data is used.

    Examples:
        >>> import torch, pollinate as po
        >>> base = {"w": torch.zeros(2, 2)}
        >>> a = {"w": torch.tensor([[2.0, 0.0], [0.0, 1.0]])}
        >>> b = {"w": torch.tensor([[1.0, 0.0], [0.0, 3.0]])}
        >>> po.merging.TSVM().merge_state_dicts({"a": a, "b": b}, base).state  # 2 of a and 3 of b
        {'w': tensor([[2., 0.],
                [0., 3.]])}
    """

    def __init__(self, scale: float | Sequence[float] = 1.0) -> None:
        super().__init__(scale)

    def combine_matrices(self, matrices: Sequence[Tensor], noise: float) -> Tensor:
        """Return U' S V'^T."""
        count = max(1, min(matrices[0].shape) // len(matrices))
        lefts, values, rights = [], [], []
        for matrix in matrices:
            u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
            kept = min(count, int((s > noise).sum()))
            lefts.append(u[:, :kept])
            values.append(s[:kept])
            rights.append(vt[:kept])
        left, right = polar_factor(torch.cat(lefts, dim=1)), polar_factor(torch.cat(rights))
        return (left * torch.cat(values)) @ right


def polar_factor(matrix: Tensor) -> Tensor:
    """Return P Q^T of the SVD P E Q^T: the orthogonal matrix that is nearest, (m, n) -> (m, n)."""
    p, _, qt = torch.linalg.svd(matrix, full_matrices=False)
    found: Tensor = p @ qt
    return found
