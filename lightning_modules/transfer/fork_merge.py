"""ForkMerge: fork, train each branch, merge what helps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.hooks import HookedModule, HookReporter
from lightning_modules.local_strategy import LocalSGDStrategy
from lightning_modules.source_models import SourceProvider
from lightning_modules.transfer.base import Transfer
from lightning_modules.transfer.branch_search import Acceptance, CoefficientSearch, GridSearch
from lightning_modules.transfer.fork_merge_rounds import ForkMergeRounds, averaging_problems
from lightning_modules.transfer.group import TransferGroup
from pollinate.errors import UsageError
from pollinate.suggest import hint

MULTI_TASK, TARGETS_ONLY = "multi_task", "targets_only"


class ForkMerge(TransferGroup):
    """w_b = train(w, weights of branch b, H steps);  w <- sum_b l_b w_b, or w again.

    The coefficients l of the simplex are those with the best validation score of the targets among
    those with which no task falls beyond its tolerance; where there are none, the round is rolled
    back. An epoch is a round: the branches train from the same weights, one after another, or, with
    ``trainer=branches``, each process its own, on the same rows.

    Args:
        targets: the tasks to make good.
        every_n_steps: H, batches that each branch trains in a round, >= 1.
        branches: {name: {task: weight of its loss, >= 0}}; a task that isn't named has weight 1,
            one of weight 0 isn't trained. None: ``multi_task``, with all weights 1, and
            ``targets_only``; where all tasks are targets, ``TASK_only`` for each.
        methods: {name: transfer method}, that the branch of this name has besides its weights; a
            name that isn't among the branches is one more, with all weights 1.
        tolerance: how far a task's score may be below its best accepted one, >= 0: of all tasks,
            or by task; a task that isn't named then may fall.
        stop_at: {task: validation score} at which training ends, once all are reached.
        search: of the coefficients; None: a grid.

    Raises:
        UsageError: a value out of range, or fewer than two branches.

    Source: Jiang et al. 2023, "ForkMerge: Mitigating Negative Transfer in Auxiliary-Task Learning",
    algorithm 1. Deviations: acceptance by task with roll-back; the optimizer's state comes from the
    branch with the largest coefficient.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.ForkMerge(targets=["mood"], every_n_steps=1)
        >>> model = po.MultiTaskModule(data, transfer=transfer, sources=po.SourceOpener())
        >>> trainer.fit(model, data)
        >>> transfer.names  # the branches
        ['multi_task', 'targets_only']
        >>> found = trainer.callback_metrics
        >>> sum(round(found[f"fork_merge/coefficient/{n}"].item(), 4) for n in transfer.names)
        1.0
    """

    def __init__(
        self,
        targets: Sequence[str],
        every_n_steps: int = 50,
        branches: Mapping[str, Mapping[str, float]] | None = None,
        methods: Mapping[str, Transfer] | None = None,
        tolerance: float | Mapping[str, float] = 0.0,
        stop_at: Mapping[str, float] | None = None,
        search: CoefficientSearch | None = None,
    ) -> None:
        super().__init__(methods or {})
        if not targets:
            raise UsageError(
                "transfer.targets must name the tasks to make good, got none: "
                "transfer.targets=[TASK]"
            )
        if every_n_steps < 1:
            raise UsageError(f"transfer.every_n_steps must be >= 1, got {every_n_steps}")
        check_range("tolerance", tolerance)
        for name, weights in (branches or {}).items():
            check_range(f"branches.{name}", weights)
        self.targets = list(targets)
        self.every_n_steps = every_n_steps
        self.weights = {name: dict(own) for name, own in (branches or {}).items()}
        self.tolerance = tolerance
        self.stop_at = dict(stop_at or {})
        self.search = search or GridSearch()
        self.acceptance = Acceptance(self.targets, {})
        self.active: str = MULTI_TASK  # the branch that trains now
        self.processes = 1  # that train branches of their own
        self._data: MixedDataModule | None = None

    @property
    def names(self) -> list[str]:
        """The branches, in the order in which they train."""
        return list(dict.fromkeys([*self.weights, *self.methods]))

    @property
    def trains_branches(self) -> bool:
        return True

    @property
    def num_branches(self) -> int:
        """As many as branches of a process."""
        return len(self.names) // self.processes

    def setup(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        """Check the tasks and the branches.

        Raises:
            UsageError: an unknown task, or a target without validation labels; fewer than two
                branches; a method that can't be one branch's own.
        """
        self._check_tasks(list(module.tasks))
        for task in self.targets:
            require_labels(task, datamodule)
        self._check_methods()
        if not self.weights:
            self.weights = default_branches(list(module.tasks), self.targets)
        if len(self.names) < 2:
            raise UsageError(
                f"transfer.branches must be >= 2 to be merged, got {', '.join(self.names)}; leave "
                "them out for multi_task and targets_only"
            )
        watched = self.tolerance
        limits = (
            dict(watched) if isinstance(watched, Mapping) else dict.fromkeys(module.tasks, watched)
        )
        self.acceptance = Acceptance(self.targets, limits)
        self.active = self.names[0]
        self._data = datamodule
        return [
            f"branches: {', '.join(self.names)}; {self.every_n_steps} steps each in a round, which "
            "is an epoch",
            *super().setup(module, datamodule, sources),
        ]

    def attach(self, trainer: Trainer) -> None:
        """Divide the branches among processes, and make an epoch a round.

        Raises:
            UsageError: they can't be divided, epochs have another length, or weights are sharded or
                averaged.
        """
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise UsageError(
                "transfer=fork_merge needs whole weights, and trainer=fsdp2 shards them; use "
                "trainer=ddp or trainer=branches"
            )
        self.processes = trainer.world_size if isinstance(trainer.strategy, LocalSGDStrategy) else 1
        if len(self.names) % self.processes:
            raise UsageError(
                f"trainer.devices must divide the number of branches, got {self.processes} for "
                f"{', '.join(self.names)}"
            )
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning
        for problem in averaging_problems(callbacks):
            raise UsageError(problem)
        assert self._data is not None
        self._set_epoch(self._data)

    def methods_at_work(self) -> dict[str, Transfer]:
        """Return the active branch's method, if it has one."""
        return {name: one for name, one in self.named().items() if name == self.active}

    def weight_losses(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses times the active branch's weights, without those of weight 0."""
        own = self.weights.get(self.active, {})
        found = {task: own.get(task, 1.0) for task in losses}
        return {task: losses[task] * weight for task, weight in found.items() if weight > 0}

    def callbacks(self, report: HookReporter) -> list[Callback]:
        return [ForkMergeRounds(self, report)]

    def _check_tasks(self, tasks: Sequence[str]) -> None:
        tolerance = self.tolerance if isinstance(self.tolerance, Mapping) else {}
        named = {"targets": self.targets, "stop_at": self.stop_at, "tolerance": tolerance}
        named |= {f"branches.{name}": own for name, own in self.weights.items()}
        for key, names in named.items():
            for task in names:
                if task not in tasks:
                    end = hint(task, tasks, "tasks")
                    raise UsageError(f"transfer.{key} names {task!r}, which is no task{end}")

    def _check_methods(self) -> None:
        for name, method in self.named().items():
            if method.changes_network or method.trains_branches:
                raise UsageError(
                    f"transfer.methods.{name} can't be one branch's own: sources inside the "
                    "network, and rounds, are of all branches; put it beside fork_merge with "
                    "transfer=several"
                )

    def _set_epoch(self, datamodule: MixedDataModule) -> None:
        steps, sampler = self.num_branches * self.every_n_steps, datamodule.sampler
        if sampler.steps_per_epoch not in (None, steps):
            raise UsageError(
                f"sampler.steps_per_epoch must be {steps}, a round of {self.num_branches} branches "
                f"of {self.every_n_steps} steps in a process, got {sampler.steps_per_epoch}; leave "
                "it out"
            )
        sampler.steps_per_epoch = steps


def default_branches(tasks: Sequence[str], targets: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return all tasks equally, and the targets only; of targets that are all tasks, each."""
    others = [task for task in tasks if task not in targets]
    if others:
        return {MULTI_TASK: {}, TARGETS_ONLY: dict.fromkeys(others, 0.0)}
    single = {f"{t}_only": {o: 0.0 for o in tasks if o != t} for t in tasks}
    return {MULTI_TASK: {}, **(single if len(tasks) > 1 else {})}


def require_labels(task: str, datamodule: MixedDataModule) -> None:
    """Check that a task can be measured on the validation split."""
    parts = datamodule.parts["valid"]
    if not any(parts[name].present[task].any() for name in datamodule.tasks[task].datasets):
        raise UsageError(
            f"transfer.targets names {task}, which has no label in the validation split, on which "
            "merges are judged; give it some: split: {..., valid: 0.1}"
        )


def check_range(key: str, given: float | Mapping[str, float]) -> None:
    """Check that all numbers are finite and >= 0."""
    values = given if isinstance(given, Mapping) else {"": given}
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            path = f"transfer.{key}{f'.{name}' if name else ''}"
            raise UsageError(f"{path} must be finite and >= 0, got {value}")
