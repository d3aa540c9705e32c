"""A shared representation from which linear adaptors predict each single-task representation."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.hooks import HookedModule, TrainingStep
from lightning_modules.source_models import SourceProvider
from lightning_modules.transfer.feature_pairs import (
    CombinedFeaturePairs,
    FeaturePair,
    FeaturePairs,
    HeadFeaturePairs,
    require_own_task,
)
from lightning_modules.transfer.feature_transfer import FeatureTransfer, mean_over_rows
from lightning_modules.transfer.frozen_model import FrozenModel
from pollinate.errors import UsageError


class Adaptors(FeatureTransfer):
    """|A_t(v) / |A_t(v)| - u_t / |u_t||^2 for each task t that has a teacher.

    v: what the task's head reads here, the shared representation where the trunk is shared; u_t:
    what the head of the teacher of t reads, a network that was trained on t alone; A_t: a learnt
    linear layer of t. Teachers don't disagree on lengths then, nor pull at v itself. Source: Li and
    Bilen 2020, "Knowledge distillation for multi-task learning", equations 4 and 5, where v are
    maps, and A_t is a convolution of size 1.

    Args:
        teachers: {task here: source}; a source with several tasks needs one of the same name, or
            ``tasks``.
        tasks: {task here: task of its source}, where names differ.
        weight, until: as for ``FeatureTransfer``.

    Raises:
        UsageError: there are no teachers, or an option is out of range.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.Adaptors({"mood": "runs/first"})
        >>> model = po.MultiTaskModule(data, dim=32, transfer=transfer, sources=po.SourceOpener())
        >>> trainer.fit(model, data)
        >>> trainer.callback_metrics["transfer/adaptors/mood"].item() > 0
        True
    """

    def __init__(
        self,
        teachers: Mapping[str, str],
        tasks: Mapping[str, str] | None = None,
        weight: float = 1.0,
        until: int | None = None,
    ) -> None:
        super().__init__(weight, until)
        if not teachers:
            raise UsageError(
                "transfer.teachers must name a source for each task that learns from one, got "
                "none: transfer.teachers={TASK: RUN, ...}"
            )
        self.teachers, self.tasks = dict(teachers), dict(tasks or {})
        self.adaptors = nn.ModuleDict()

    def make_pairs(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> FeaturePairs:
        for task in [*self.teachers, *self.tasks]:
            require_own_task(task, list(module.network.routes))
        opened = {
            what: FrozenModel(sources.open(what).single_network())
            for what in dict.fromkeys(self.teachers.values())
        }
        return CombinedFeaturePairs(
            [
                HeadFeaturePairs(
                    opened[what], {task: self._theirs(task, opened[what])}, module, datamodule
                )
                for task, what in self.teachers.items()
            ]
        )

    def _theirs(self, task: str, teacher: FrozenModel) -> str:
        """Return the teacher's task: as named, or the only one that it has, or the same name."""
        heads = list(teacher.network.heads)
        return self.tasks.get(task) or (heads[0] if len(heads) == 1 else task)

    def prepare_pair(self, name: str, pair: FeaturePair) -> None:
        """Make A_t, at first the identity as far as the widths allow."""
        self.adaptors[name] = adaptor = nn.Linear(
            pair.own.shape[-1], pair.other.shape[-1], bias=False
        )
        nn.init.eye_(adaptor.weight)

    def distance(self, name: str, pair: FeaturePair, step: TrainingStep) -> Tensor:
        adaptor = self.adaptors[name]
        assert isinstance(adaptor, nn.Linear)
        own = adaptor(pair.own.to(adaptor.weight.dtype)).to(pair.own.dtype)
        return mean_over_rows(direction_distance(own, pair.other), pair, step)


def direction_distance(own: Tensor, other: Tensor) -> Tensor:
    """Return the squared distance of directions: (n, D) twice -> (n,), in [0, 4]."""
    difference = functional.normalize(own, dim=-1) - functional.normalize(other, dim=-1)
    return difference.square().sum(dim=-1)
