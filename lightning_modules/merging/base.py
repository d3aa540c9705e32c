"""The merging contract: a method, and what it makes of several models."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from lightning_modules.merging.evaluator import STATISTICS, MergeEvaluator, ScoreEvaluator
from lightning_modules.merging.models import Models, StateReader
from lightning_modules.state_dicts import StateDict
from lightning_modules.tuning.base import PeftAdapter
from pollinate.errors import UsageError
from pollinate.recipes import Buildable


@dataclass
class MergeResult:
    """A model made of several.

    state: {name: tensor} of the network, without adapters.
    coefficients: how it was made, as plain values: given, or chosen on validation data.
    adapters: {modality: {task: the adapter beside its encoder}}, if the method keeps adapters.
    """

    state: dict[str, Tensor]
    coefficients: dict[str, Any] = field(default_factory=dict)
    adapters: dict[str, dict[str, PeftAdapter]] = field(default_factory=dict)


class MergeMethod(metaclass=Buildable):
    """A way to make one model of several.

    Attributes:
        needs_base: whether it looks at what the models learnt since a common start.
        fewest: models that it takes at least.
        most: models that it takes at most; None: any number.

    The models have one shape, unless the method also is a ``CombinesNetworks``: then its result
    holds all of them.

    Examples:
        >>> import torch, pollinate as po
        >>> method = po.merging.Average()
        >>> isinstance(method, po.merging.MergeMethod)
        True
        >>> method.needs_base, po.merging.Ties.needs_base  # the models' common start
        (False, True)
        >>> models = {"a": {"w": torch.tensor([1.0])}, "b": {"w": torch.tensor([3.0])}}
        >>> method.merge_state_dicts(models).state
        {'w': tensor([2.])}
    """

    needs_base: ClassVar[bool] = False
    fewest: ClassVar[int] = 1
    most: ClassVar[int | None] = None

    @abstractmethod
    def merge(self, models: Models, evaluator: MergeEvaluator) -> MergeResult:
        """Return the merged model.

        Args:
            models: their tensors.
            evaluator: runs networks on data, which are loaded when they are first asked for.
        """

    def used_models(self, tasks: Mapping[str, Sequence[str]]) -> list[str]:
        """Return the names of the models that the result is made of, in their order.

        Args:
            tasks: {model: the tasks that it predicts}.

        Raises:
            UsageError: an option names a model or a task that there isn't.
        """
        return list(tasks)

    def merge_state_dicts(
        self,
        models: Mapping[str, StateDict],
        base: StateDict | None = None,
        score: Callable[[StateDict], float] | None = None,
    ) -> MergeResult:
        """Merge the weights of any modules, without a run.

        Tensors named like BatchNorm's statistics, and those of whole numbers, are no weights: they
        are averaged.

        Args:
            models: {name: its state dict}.
            base: of the model that all of them were trained from.
            score: of a merged model, larger is better, for methods that choose by it.

        Raises:
            UsageError: the method needs what isn't given, or shapes differ.
        """
        name = type(self).__name__
        check_method(self, name, list(models), "..." if base is not None else None)
        weights = {
            key
            for state in models.values()
            for key, tensor in state.items()
            if tensor.is_floating_point() and key.rpartition(".")[2] not in STATISTICS
        }
        readers: list[StateReader] = [partial(dict, state) for state in models.values()]
        start: StateReader | None = None if base is None else partial(dict, base)
        merged = Models(list(models), readers, weights, [[]] * len(models), start)
        return self.merge(merged, ScoreEvaluator(merged, score, name))


NO_START = (
    "subtracts from each model the one that all were trained on from, to see what it learnt; "
    "without that start there is nothing to subtract"
)


def check_method(method: MergeMethod, name: str, models: Sequence[Any], base: Any) -> None:
    """Check that a method is given what it takes.

    Raises:
        UsageError: too few models or too many; a start is missing, or given for nothing.
    """
    count = len(models)
    if count < method.fewest or (method.most is not None and count > method.most):
        wanted = f"{method.fewest}" if method.most == method.fewest else f">= {method.fewest}"
        raise UsageError(f"models must be {wanted} for {name}, got {count}: models=[A,B]")
    if method.needs_base and base is None:
        raise UsageError(
            f"{name} {NO_START}: name it with base=CHECKPOINT. Models that were initialised "
            "independently have none: average their predictions with method=ensemble"
        )
    if base is not None and not method.needs_base:
        raise UsageError(f"{name} doesn't use a common start; leave out base={base}")
