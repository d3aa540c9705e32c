"""The output ensemble."""

from __future__ import annotations

from typing import ClassVar

from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models


class OutputEnsemble(MergeMethod):
    """p(y | x) = 1/k sum_i p_i(y | x): all models answer, and the mean of their answers counts.

    Nothing is merged: the result holds all models, and costs as much as they do together. They may
    have different encoders, trunks, widths and starts. Source: Lakshminarayanan et al. 2017,
    "Simple and scalable predictive uncertainty estimation using deep ensembles", section 2.4.

    Examples:
        >>> import torch, pollinate as po
        >>> a, b = {"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}
        >>> po.merging.OutputEnsemble().merge_state_dicts({"a": a, "b": b}).state
        {'members.0.w': tensor([1.]), 'members.1.w': tensor([3.])}
    """

    keeps_members: ClassVar[bool] = True

    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        """Put all models side by side."""
        state = {
            f"members.{place}.{name}": tensor.clone()
            for place, read in enumerate(models.read)
            for name, tensor in read().items()
        }
        return MergeResult(state, {"members": models.labels})
