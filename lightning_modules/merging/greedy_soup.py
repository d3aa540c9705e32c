"""The greedy soup."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.merging.average import average
from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models


class GreedySoup(MergeMethod):
    """The average of the models that don't make it worse, tried from the best one down.

    A model joins if the validation score of the average with it is at least that without it. What
    none of those in the soup has, a task's head, comes from the others. Source: Wortsman et al.
    2022, "Model soups", recipe 1.

    Examples:
        >>> import torch, pollinate as po
        >>> models = {"a": {"w": torch.tensor(1.0)}, "b": {"w": torch.tensor(2.5)}}
        >>> models["broken"] = {"w": torch.tensor(9.0)}
        >>> def score(state):  # in a run, the validation score
        ...     return -abs(state["w"].item() - 2)
        >>> po.merging.GreedySoup().merge_state_dicts(models, score=score).state
        {'w': tensor(1.7500)}
    """

    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        alone = [evaluator.score(soup(models, [model])) for model in range(len(models))]
        order = sorted(range(len(models)), key=lambda model: -alone[model])
        chosen, best = order[:1], alone[order[0]]
        for model in order[1:]:
            score = evaluator.score(soup(models, [*chosen, model]))
            if score >= best:
                chosen, best = [*chosen, model], score
        found = {
            "weights": {
                label: 1 / len(chosen) if model in chosen else 0.0
                for model, label in enumerate(models.labels)
            },
            "validation_score": best,
            "alone": dict(zip(models.labels, alone, strict=True)),
        }
        return MergeResult(soup(models, chosen), found)


def soup(models: Models, chosen: list[int]) -> dict[str, Tensor]:
    """Return the average of the chosen models."""
    return average(models, [float(model in chosen) for model in range(len(models))])
