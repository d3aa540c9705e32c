"""Several networks whose outputs are averaged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.merging.base import MergeMethod, MergeResult
from lightning_modules.merging.evaluator import MergeEvaluator
from lightning_modules.merging.models import Models
from lightning_modules.task_network import CombinesNetworks, TaskNetwork
from lightning_modules.tasks.base import Task
from lightning_modules.trunks.base import Routes
from lightning_modules.views import EncodedDataset
from pollinate.errors import UsageError
from pollinate.suggest import hint, listing, shown


class Ensemble(TaskNetwork):
    """A task's output is the weighted mean of the outputs of the members that have the task.

    How outputs are averaged is the task's own: ``Task.ensemble_output``, of probabilities where
    there are any. A member of weight 0 isn't run for the task.

    Args:
        members: trained networks, of any shapes; their tasks may differ.
        tasks: {name: task} of all members.
        routes: {task: data sets}.
        weights: {task: {place of a member: its weight > 0}}, the others of which have none; a task
            that isn't named has all of its members, with the same weight.
    """

    def __init__(
        self,
        members: Sequence[TaskNetwork],
        tasks: Mapping[str, Task],
        routes: Routes,
        weights: Mapping[str, Mapping[int, float]] | None = None,
    ) -> None:
        super().__init__(routes)
        self.members = nn.ModuleList(members)
        self.tasks = dict(tasks)
        self.weights = {task: dict(own) for task, own in (weights or {}).items()}

    @property
    def networks(self) -> Sequence[TaskNetwork]:
        return [cast("TaskNetwork", member) for member in self.members]

    def modalities(self) -> tuple[str, ...]:
        own = (one.forms.get(name, name) for one in self.networks for name in one.modalities())
        return tuple(dict.fromkeys(own))

    def encode(self, batches: Mapping[str, Batch], routes: Routes) -> dict[str, EncodedDataset]:
        """Let each member encode the rows of its tasks: {``member/key``: rows}."""
        found, batches = {}, self.as_read(batches)
        for place, member, own in self._members_with_tasks(routes):
            names = {name for datasets in own.values() for name in datasets}
            read = {name: batch for name, batch in batches.items() if name in names}
            for key, encoded in member.encode(read, own).items():
                found[f"{place}/{key}"] = encoded
        return found

    def answer(
        self,
        batches: Mapping[str, Batch],
        routes: Routes,
        limits: Mapping[str, int] | None = None,
    ) -> dict[str, Tensor]:
        outputs: dict[str, dict[int, Tensor]] = {}
        for place, member, own in self._members_with_tasks(routes):
            names = {name for datasets in own.values() for name in datasets}
            read = {name: batch for name, batch in batches.items() if name in names}
            for task, output in (member.answer(read, own, limits) if read else {}).items():
                outputs.setdefault(task, {})[place] = output
        return {task: self._mean(task, found) for task, found in outputs.items()}

    def predict(self, encoded: Mapping[str, EncodedDataset], routes: Routes) -> dict[str, Tensor]:
        """Average what the members make of the rows that they encoded."""
        found = self._by_place(encoded, routes)
        return {task: self._mean(task, own) for task, own in found.items()}

    def member_outputs(
        self, encoded: Mapping[str, EncodedDataset], routes: Routes
    ) -> dict[str, list[Tensor]]:
        return {t: list(own.values()) for t, own in self._by_place(encoded, routes).items()}

    def _by_place(
        self, encoded: Mapping[str, EncodedDataset], routes: Routes
    ) -> dict[str, dict[int, Tensor]]:
        """Return {task: {place of a member: its outputs}}."""
        outputs: dict[str, dict[int, Tensor]] = {}
        for place, member, own in self._members_with_tasks(routes):
            start = f"{place}/"
            read = {
                k.removeprefix(start): rows for k, rows in encoded.items() if k.startswith(start)
            }
            if read:
                for task, output in member.predict(read, own).items():
                    outputs.setdefault(task, {})[place] = output
        return outputs

    def _mean(self, task: str, outputs: Mapping[int, Tensor]) -> Tensor:
        """Return the mean of the members' outputs, {place: (N, ...)}."""
        together = torch.stack(list(outputs.values()))
        if task not in self.weights:
            return self.tasks[task].ensemble_output(together)
        own = torch.tensor([self.weights[task][place] for place in outputs], dtype=torch.float64)
        shares = (own / own.sum()).to(together.device, torch.float32)
        return self.tasks[task].ensemble_output(together, shares)

    def _members_with_tasks(self, routes: Routes) -> Iterator[tuple[int, TaskNetwork, Routes]]:
        """Yield (number, member, those of the tasks that it predicts)."""
        for place, member in enumerate(self.networks):
            own = {
                task: names
                for task, names in routes.items()
                if task in member.routes and place in self.weights.get(task, (place,))
            }
            if own:
                yield place, member, own


class OutputEnsemble(MergeMethod, CombinesNetworks):
    """p_t(y | x) = sum_i w_ti p_i(y | x), sum_i w_ti = 1: all models predict, and are averaged.

    No weights of networks are merged: the result holds the models, and costs as much as they. They
    may have different encoders, trunks, widths and starts, and be ensembles. A model with a weight
    of 0 isn't run for the task, and one that no task needs isn't in the result. Sources:
    Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty estimation using deep
    ensembles", section 2.4, where w = 1/k; Caruana et al. 2004, "Ensemble selection from libraries
    of models", which chooses them.

    Args:
        weights: {task: {model: relative weight, >= 0}}; a model that isn't named has 0. Models with
            a task that isn't named have the same weight.

    Raises:
        UsageError: a weight is negative or no number, or all of a task's are 0.

    Examples:
        >>> import torch, pollinate as po
        >>> a, b = {"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}
        >>> po.merging.OutputEnsemble().merge_state_dicts({"a": a, "b": b}).state
        {'members.0.w': tensor([1.]), 'members.1.w': tensor([3.])}
        >>> method = po.merging.OutputEnsemble(weights={"mood": {"a": 2, "b": 1}})
        >>> method.used_models({"a": ["mood", "stars"], "b": ["mood"], "c": ["mood"]})
        ['a', 'b']
    """

    def __init__(self, weights: Mapping[str, Mapping[str, float]] | None = None) -> None:
        self.weights = checked_weights({} if weights is None else weights)

    def used_models(self, tasks: Mapping[str, Sequence[str]]) -> list[str]:
        known = list(dict.fromkeys(task for own in tasks.values() for task in own))
        for task, own in self.weights.items():
            if task not in known:
                raise UsageError(
                    f"weights names the task {task!r}, which no model has"
                    f"{hint(task, known, 'tasks')}"
                )
            for label, weight in own.items():
                if label not in tasks:
                    raise UsageError(
                        f"weights.{task} names the model {label!r}, which isn't among those "
                        f"given{hint(label, tasks, 'models')}"
                    )
                if weight and task not in tasks[label]:
                    others = [one for one, has in tasks.items() if task in has]
                    raise UsageError(
                        f"weights.{task}.{label} must be 0, as {label} doesn't predict {task}, got "
                        f"{weight}; models that do: {listing(others)}"
                    )
        return [
            label
            for label, own in tasks.items()
            if any(self.weights.get(task, {label: 1.0}).get(label) for task in own)
        ]

    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        state = {
            f"members.{place}.{name}": tensor.clone()
            for place, read in enumerate(models.read)
            for name, tensor in read().items()
        }
        shares = {
            task: {label: weight / sum(own.values()) for label, weight in own.items()}
            for task, own in self.weights.items()
        }
        weights = {"weights": shares} if shares else {}
        return MergeResult(state, {"members": models.labels, **weights})

    @classmethod
    def combine(
        cls,
        networks: Mapping[str, TaskNetwork],
        tasks: Mapping[str, Task],
        routes: Routes,
        options: Mapping[str, Any],
    ) -> TaskNetwork:
        written = [name for name, task in tasks.items() if not task.averages]
        if written and len(networks) > 1:
            raise UsageError(
                f"an ensemble averages answers, and texts, which {listing(written)} write"
                f"{'s' if len(written) == 1 else ''}, have no mean; merge the weights, "
                "method=average or ties, or give the task choices"
            )
        method = cls(options.get("weights"))
        method.used_models({label: list(one.routes) for label, one in networks.items()})
        weights = {
            task: {place: own[label] for place, label in enumerate(networks) if own.get(label)}
            for task, own in method.weights.items()
        }
        return Ensemble(list(networks.values()), tasks, routes, weights)


def checked_weights(given: Any) -> dict[str, dict[str, float]]:
    """Return weights of models by task, whatever it is that was given.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(given, Mapping):
        raise UsageError(f"weights must be {{task: {{model: weight}}}}, got {shown(given)}")
    found = {}
    for task, own in given.items():
        if not isinstance(own, Mapping):
            raise UsageError(f"weights.{task} must be {{model: weight}}, got {shown(own)}")
        for label, weight in own.items():
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not number or not 0 <= weight < math.inf:
                raise UsageError(f"weights.{task}.{label} must be >= 0, got {shown(weight)}")
        if not any(own.values()):
            raise UsageError(
                f"weights.{task} must not all be 0, got {shown(dict(own))}; leave the task out for "
                "the same weight of all its models"
            )
        found[str(task)] = {str(label): float(weight) for label, weight in own.items()}
    return found
