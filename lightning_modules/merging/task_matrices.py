"""Task matrices: what a layer's matrix learnt since a common start, taken whole."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.merging.models import Models, ResultTensor
from lightning_modules.merging.task_vectors import TaskVectorMerge, task_vector


class TaskMatrixMerge(TaskVectorMerge):
    """theta = theta_0 + s f(D_1, ..., D_k), D_i = theta_i - theta_0 of a layer's matrix.

    A convolution's weight is (out, in h w). What is no matrix, biases and norms, gets the mean of
    the task vectors in place of f.

    Args:
        scale: s; of several, the one that scores best on validation data, the first of the best.

    Examples:
        >>> import torch, pollinate as po
        >>> class LargestNorm(po.merging.TaskMatrixMerge):
        ...     def combine_matrices(self, matrices, noise):
        ...         return max(matrices, key=torch.linalg.matrix_norm)
        >>> base = {"w": torch.zeros(1, 2)}
        >>> a, b = {"w": torch.tensor([[3.0, 4.0]])}, {"w": torch.tensor([[0.0, 4.5]])}
        >>> LargestNorm(scale=0.5).merge_state_dicts({"a": a, "b": b}, base).state
        {'w': tensor([[1.5000, 2.0000]])}
    """

    def __init__(self, scale: float | Sequence[float]) -> None:
        super().__init__(scale)
        self._found: dict[str, Tensor] = {}  # f by tensor, where several s are tried

    @abstractmethod
    def combine_matrices(self, matrices: Sequence[Tensor], noise: float) -> Tensor:
        """Return f(D_1, ..., D_k): (out, in) float64.

        Args:
            matrices: (out, in) float64 each, of the models that have the layer.
            noise: below it, a singular value may come from the rounding of the weights.
        """

    def prepare(self, models: Models) -> None:
        self._found.clear()

    def combine(self, taus: Sequence[Tensor], unit: ResultTensor, first: int) -> Tensor:
        """Return the mean of what is no matrix."""
        return torch.stack(list(taus)).mean(dim=0)

    def moved(
        self, unit: ResultTensor, tensors: Sequence[Tensor], start: Tensor, scale: float
    ) -> Tensor:
        if start.dim() < 2:
            return super().moved(unit, tensors, start, scale)
        found = self._found.get(unit.name)
        if found is None:
            matrices = [task_vector(tensor, start).flatten(1) for tensor in tensors]
            noise = max(rounding(tensor) for tensor in (*tensors, start))
            found = self.combine_matrices(matrices, noise).reshape(start.shape)
            if len(self.scales) > 1:
                self._found[unit.name] = found
        return (start.double() + scale * found).to(tensors[0].dtype)


def rounding(weight: Tensor) -> float:
    """Return how large a singular value the rounding of a weight's entries can make, at most."""
    return float(torch.finfo(weight.dtype).eps * weight.double().norm())
