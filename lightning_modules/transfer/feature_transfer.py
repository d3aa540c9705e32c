"""The base of methods that pull this run's features towards a source's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from datamodules.batch import MixedBatch
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.distributed import all_reduce_sum, gather_rows
from lightning_modules.hooks import AddedLosses, HookedModule, TrainingStep
from lightning_modules.source_models import SourceProvider
from lightning_modules.transfer.base import Transfer, peer_task, probe_step
from lightning_modules.transfer.feature_pairs import (
    EncoderFeaturePairs,
    FeaturePair,
    FeaturePairs,
    HeadFeaturePairs,
    PeerFeaturePairs,
)
from lightning_modules.transfer.frozen_model import FrozenModel
from pollinate.errors import UsageError


class FeatureTransfer(Transfer):
    """weight x distance(this run's features, a source's features of the same rows).

    That of what a task's head reads is added to the task's loss; that of an encoder belongs to no
    task, and is added after balancing.

    Args:
        weight: of what is added, >= 0.
        until: optimizer steps after which nothing is added, None: never.

    Raises:
        UsageError: a value out of range.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.Hints("runs/first", weight=0.5, until=1000)
        >>> isinstance(transfer, po.transfer.FeatureTransfer)
        True
        >>> model = po.MultiTaskModule(data, transfer=transfer, sources=po.SourceOpener())
        >>> trainer.fit(model, data)
        >>> trainer.callback_metrics["transfer/hints/text"].item() > 0
        True
    """

    def __init__(self, weight: float, until: int | None) -> None:
        super().__init__()
        if weight < 0:
            raise UsageError(f"transfer.weight must be >= 0, got {weight}")
        if until is not None and until < 1:
            raise UsageError(f"transfer.until must be >= 1 optimizer step, got {until}")
        self.weight, self.until = weight, until
        self._pairs: FeaturePairs | None = None
        self._latest: dict[str, Tensor] = {}  # as ``step.mean`` scales

    @abstractmethod
    def make_pairs(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> FeaturePairs:
        """Open the sources; return what finds features to compare.

        Raises:
            PollinateError: there is no such source.
            UsageError: it lacks a task or a modality, or reads other rows.
        """

    @abstractmethod
    def distance(self, name: str, pair: FeaturePair, step: TrainingStep) -> Tensor:
        """Return how far this run's features are from the source's: (), as ``step.mean`` scales.

        Args:
            name: of the pair.
            pair: in 32 bits or more.
            step: whose rows.
        """

    def prepare_pair(self, name: str, pair: FeaturePair) -> None:
        """Make what the comparison needs, such as layers, for features like those of the pair."""

    def setup(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        """Open the sources, and look at a few rows.

        Raises:
            PollinateError: as for ``make_pairs``.
        """
        self._pairs = self.make_pairs(module, datamodule, sources)
        lines = []
        for name, pair in self._pairs.find(probe_step(module, datamodule)).items():
            self.prepare_pair(name, pair)
            whose = self._pairs.whose(name)
            lines.append(
                f"{name}: {shape_text(pair.own)} here, {shape_text(pair.other)} of {whose}"
            )
        return lines

    def losses(self, step: TrainingStep) -> AddedLosses:
        if self.until is not None and step.steps_done >= self.until:
            self._latest = {}
            return AddedLosses()
        assert self._pairs is not None, "setup comes first"
        found = {}
        for name, pair in self._pairs.find(step).items():
            with torch.autocast(pair.own.device.type, enabled=False):
                found[name] = self.weight * self.distance(name, pair.precise(), step)
        self._latest = {name: loss.detach() for name, loss in found.items()}
        if self._pairs.of_tasks:
            return AddedLosses(by_task=found)
        return AddedLosses(
            regularization=torch.stack(list(found.values())).sum() if found else None
        )

    def required_tasks(self, batch: MixedBatch) -> Sequence[str]:
        """Return the tasks that learn, with labels or without."""
        return () if self._pairs is None else self._pairs.required_tasks(batch.sizes)

    def gauges(self) -> dict[str, float]:
        """Return the last step's weighted distances."""
        kind = type(self).__name__.lower()
        return {
            f"transfer/{kind}/{name}": mean_over_processes(value)
            for name, value in self._latest.items()
        }


def mean_over_rows(distances: Tensor, pair: FeaturePair, step: TrainingStep) -> Tensor:
    """Return the mean of distances (n,) over the rows of all processes, as ``step.mean`` does."""
    return step.mean(distances * pair.counts, pair.rows)


def distance_of_all_rows(
    pair: FeaturePair, least: int, between: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Return the distance of two sets of rows, those of all processes together.

    Their number changes nothing then. Fewer rows than ``least`` have no distance, and get 0.

    Args:
        pair: (n, D) and (n, D').
        least: rows that the distance is defined for.
        between: of (n, D) and (n, D'): ().
    """
    own, other = gather_rows(pair.own)[0], gather_rows(pair.other)[0]
    return between(own, other) if len(own) >= least else own.sum() * 0


def shape_text(features: Tensor) -> str:
    """Return the shape of a row's features, width last: ``7 x 7 x 64``."""
    width, *sides = features.shape[1:] if features.dim() == 4 else features.shape[:0:-1]
    return " x ".join(str(one) for one in [*sides, width])


def mean_over_processes(value: Tensor) -> float:
    """Return the mean over all processes."""
    here = torch.distributed.is_available() and torch.distributed.is_initialized()
    world_size = torch.distributed.get_world_size() if here else 1
    return all_reduce_sum(value.double().cpu()).item() / world_size


REPRESENTATION = "representation"


@dataclass(frozen=True)
class FeatureSelection:
    """What is compared, as a user says it.

    source: a run folder, a checkpoint, an MLflow run id, ``models:/NAME/VERSION``, a folder of timm
        or transformers, or ``task:NAME``, a task of this run.
    at: pooled, sequence or grid of encoders, or representation: what a task's head reads; None:
        the method's usual one, representation for ``task:NAME``.
    modalities: whose encoders; None: all that both have.
    tasks: {task here: task there}, or names that are the same; None: all of the same name, and for
        ``task:NAME`` all others that read the same data sets.
    """

    source: str
    at: str | None
    modalities: Sequence[str] | None
    tasks: Mapping[str, str] | Sequence[str] | None


class SingleSourceTransfer(FeatureTransfer):
    """Finds pairs of features, of encoders or of heads.

    Args:
        source, at, modalities, tasks: as for ``FeatureSelection``.
        weight, until: as for ``FeatureTransfer``.

    Attributes:
        kinds: values of ``at`` that the method can compare, the usual one first.

    Raises:
        UsageError: a value out of range.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.CKA("task:mood", tasks=["stars"])  # of this run
        >>> isinstance(transfer, po.transfer.SingleSourceTransfer), transfer.at
        (True, 'representation')
        >>> po.transfer.CKA("runs/first").at, po.transfer.CKA.kinds
        ('pooled', ('pooled', 'representation'))
    """

    kinds: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        source: str,
        at: str | None = None,
        modalities: Sequence[str] | None = None,
        tasks: Mapping[str, str] | Sequence[str] | None = None,
        weight: float = 1.0,
        until: int | None = None,
    ) -> None:
        super().__init__(weight, until)
        compared = FeatureSelection(source, at, modalities, tasks)
        peer = peer_task(source)
        if peer and REPRESENTATION not in self.kinds:
            raise UsageError(
                f"transfer.source must be another model, got {compared.source}: all tasks of a run "
                f"share its encoders, whose {' or '.join(self.kinds)} is compared"
            )
        allowed = (REPRESENTATION,) if peer else self.kinds
        self.at = compared.at or allowed[0]
        if self.at not in allowed:
            whose = f" for {compared.source}" if peer else ""
            raise UsageError(f"transfer.at must be {' or '.join(allowed)}{whose}, got {self.at}")
        refuse_unused(compared, self.at)
        self.compared = compared

    def make_pairs(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> FeaturePairs:
        """Open the source, unless it is a task of this run."""
        chosen = self.compared
        peer = peer_task(chosen.source)
        if peer is not None:
            tasks = None if chosen.tasks is None else list(chosen.tasks)
            return PeerFeaturePairs(peer, tasks, module)
        teacher = FrozenModel(sources.open(chosen.source).single_network())
        if self.at == REPRESENTATION:
            return HeadFeaturePairs(teacher, task_mapping(chosen.tasks), module, datamodule)
        return EncoderFeaturePairs(teacher, chosen.modalities, self.at, module, datamodule)


def refuse_unused(compared: FeatureSelection, at: str) -> None:
    """Refuse options that would change nothing.

    Raises:
        UsageError: modalities are named where heads are compared, or tasks where encoders are.
    """
    if at == REPRESENTATION and compared.modalities is not None:
        raise UsageError(
            f"transfer.modalities is for features of encoders, and at is {REPRESENTATION}; name "
            "transfer.tasks, or set at=pooled"
        )
    if at != REPRESENTATION and compared.tasks is not None:
        raise UsageError(
            f"transfer.tasks is for what heads read, and at is {at}, of encoders; name "
            f"transfer.modalities, or set at={REPRESENTATION}"
        )


def task_mapping(tasks: Mapping[str, str] | Sequence[str] | None) -> dict[str, str] | None:
    """Return {task here: task there}."""
    if tasks is None:
        return None
    return dict(tasks) if isinstance(tasks, Mapping) else {task: task for task in tasks}
