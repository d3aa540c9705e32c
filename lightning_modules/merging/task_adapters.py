"""Adapters of each task, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.merging.adapter_merge import (
    AdapterMerge,
    common_targets,
    is_decomposed,
)
from lightning_modules.merging.adapters import EncoderAdapters
from lightning_modules.merging.models import Models
from lightning_modules.state_dicts import StateDict
from lightning_modules.tuning.adapted_layers import AdaptedLayer, concatenated
from lightning_modules.tuning.peft_adapters import LowRankTuning
from lightning_modules.tuning.task_lora import TaskLoRA
from pollinate.errors import UsageError


class TaskAdapters(AdapterMerge):
    """W + B_t A_t of the rows of task t, where B_t A_t is the adapter of the model that has t.

    One model with adapters per task (``po.tuning.TaskLoRA``), in one pass of the backbone: each
    task's features are those of its own model, nothing is mixed. Of a task that several models
    have it is the sum_i w_i B_i A_i / sum_i w_i of theirs, exactly, and of what the models' other
    parts learnt, trunk and projections, the average. The rank is the largest, the scale 1.

    Args:
        weights: w_i of each model, > 0; null: all the same.

    Raises:
        UsageError: a weight isn't above 0.

    Examples:
        >>> import pollinate as po
        >>> po.merging.TaskAdapters().shares(["a", "b"])
        [0.5, 0.5]
    """

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        if weights is not None and not min(weights, default=0) > 0:
            raise UsageError(f"weights must be > 0, got {list(weights)}")
        super().__init__(weights)

    def tuning(self, adapters: Sequence[EncoderAdapters]) -> LowRankTuning:
        if is_decomposed(adapters):
            names = [one.model for one in adapters if is_decomposed([one])]
            raise UsageError(
                f"adapters per task have no lengths of their own, as those of {', '.join(names)} "
                "by tune=dora have; use method=adapter_concat, or train with tune=lora"
            )
        ranks: dict[str, int] = {}
        for one in adapters:
            for task in {task for own in one.layers.values() for task in own}:
                largest = max(own[task].rank for own in one.layers.values() if task in own)
                ranks[task] = ranks.get(task, 0) + largest
        rank = max(ranks.values())
        dropout = adapters[0].tuning.dropout
        return TaskLoRA(rank, float(rank), dropout, common_targets(adapters))

    def merge_layers(
        self, models: Models, modality: str, state: StateDict
    ) -> dict[str, dict[str, AdaptedLayer]]:
        found: dict[str, dict[str, AdaptedLayer]] = {}
        for task in dict.fromkeys(task for own in models.tasks for task in own):
            owners = [place for place, own in enumerate(models.tasks) if task in own]
            shares = dict(zip(owners, self.shares_of(models, owners), strict=True))
            total = sum(shares.values())
            parts: dict[str, list[tuple[AdaptedLayer, float]]] = {}
            for place in owners:
                adapters = models.adapters[place].get(modality)
                for name, by_task in ({} if adapters is None else adapters.layers).items():
                    if task in by_task:
                        parts.setdefault(name, []).append((by_task[task], shares[place] / total))
            if parts:
                found[task] = {
                    name: concatenated([one for one, _ in own], [weight for _, weight in own])
                    for name, own in parts.items()
                }
        return found
