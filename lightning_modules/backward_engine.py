"""The backward pass of a run: exchanges the tasks' gradients under the strategy of its trainer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import (
    DDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from datamodules.batch import Batch
from lightning_modules.balancers.base import Balancer
from lightning_modules.balancers.shared_gradients import (
    FeatureGradients,
    GradientReducer,
    ParameterGradients,
    SharedGradients,
    average_gradients,
    broadcast_buffers,
)
from lightning_modules.distributed import CommunicationStats, moving_buffers
from lightning_modules.local_strategy import LocalSGDStrategy
from lightning_modules.network import ForwardTrace, MultiTaskNetwork
from lightning_modules.tuning.base import SteppedTuning
from pollinate.errors import UsageError


class BackwardEngine:
    """Runs network and balancer so that the balancer finds the gradients that it looks at.

    Args:
        network: the shared part and the heads.
        balancer: combines the tasks' losses.
        same_rows: whether tasks that have the same data sets also have labels on the same rows.

    Raises:
        UsageError: gradients are to be balanced at features of which each task has its own, or
            that its own adapters made; or the balancer keeps vectors of shared parameters that
            train in some steps only.
    """

    def __init__(
        self, network: MultiTaskNetwork, balancer: Balancer, same_rows: bool = True
    ) -> None:
        self.network = network
        self.balancer = balancer
        self._same_rows = same_rows
        self.level = balancer.level(same_rows and network.tasks_share_features())
        if self.level == "features" and not network.trunk.same_for_all:
            raise UsageError(
                "balancer.level=features needs a trunk that gives all tasks the same features, and "
                f"{type(network.trunk).__name__} gives each its own; set balancer.level=parameters "
                "or auto"
            )
        if self.level == "features" and network.adapted():
            raise UsageError(
                "balancer.level=features needs encoders that are the same for all tasks, and that "
                f"of {' and '.join(network.adapted())} has adapters of each task's own; set "
                "balancer.level=parameters or auto"
            )
        if self.level == "features" and network.prompted():
            raise UsageError(
                "balancer.level=features needs tasks that read the same features, and "
                f"{' and '.join(network.prompted())} answer in words; set "
                "balancer.level=parameters or auto"
            )
        stepped = next(iter(self._stepped()), None)
        if balancer.tracks_shared_gradients and stepped is not None:
            raise UsageError(
                f"{type(balancer).__name__} follows the shared weights' gradients over the steps, "
                f"and encoder.{stepped}.tune changes which of them train; choose another tune or "
                "balancer"
            )
        self._shared: SharedGradients | None = None
        self.traffic = CommunicationStats()
        self._ranks = GradientReducer(traffic=self.traffic)
        self._averages = False  # whether gradients are averaged here, not by the strategy
        self._reduces = False  # whether the strategy averages gradients
        self.sharded = False  # whether devices hold pieces of the weights
        self.local = False  # whether each process takes steps on its own
        self.weights_differ = False  # whether they have other weights at the moment
        self.divides_rows = True  # whether they divide a step's rows, or each takes all

    def attach(self, strategy: Strategy) -> None:
        """Choose where gradients meet under a strategy, before training; see ``choose``."""
        whole = isinstance(strategy, DDPStrategy | SingleDeviceStrategy)
        sharded = isinstance(strategy, ModelParallelStrategy)
        self.local = isinstance(strategy, LocalSGDStrategy)
        self.choose(type(strategy).__name__, whole, sharded)

    def choose(self, strategy: str, whole: bool, sharded: bool) -> None:
        """Choose where gradients meet.

        Where weights are sharded, ``auto`` takes features wherever the trunk allows it.

        Args:
            strategy: its name, for messages.
            whole: whether every process has all weights.
            sharded: whether the processes have pieces of them.

        Raises:
            UsageError: the strategy shards parameters that the balancer would need whole, or that
                train in some steps only.
        """
        self.sharded = sharded
        stepped = next(iter(self._stepped()), None)
        if self.sharded and stepped is not None:
            raise UsageError(
                f"encoder.{stepped}.tune changes what trains from step to step, which sharded "
                "weights can't; choose another tune, or trainer=ddp"
            )
        if self.sharded and self.network.prompted():
            raise UsageError(
                f"{' and '.join(self.network.prompted())} answer in words, for which each process "
                f"needs the language model whole, and {strategy} shards it; choose trainer=ddp, "
                "with adapters (encoder.text.tune=lora) where memory is short"
            )
        if self.sharded and self.level == "parameters":
            self.level = self.balancer.level(self.network.trunk.same_for_all)
        if self.level == "parameters" and not whole:
            raise UsageError(
                f"balancing on parameters needs them whole, and {strategy} shards them; set "
                "balancer.level=auto, which takes features where method and trunk allow it, or "
                "trainer=ddp"
            )

    def start(self, trainer: Trainer) -> None:
        """Take over the exchange of gradients that the strategy doesn't do.

        That is all of it, if the balancer looks at gradients under DDP, or if DDP expects a
        gradient of every parameter, which a step without some task's labels hasn't; and that of the
        weights which stay whole, if the others are sharded.

        Raises:
            UsageError: as for ``attach``.
        """
        self._shared = None
        strategy = trainer.strategy
        self.attach(strategy)
        self._ranks = GradientReducer(1 if self.local else trainer.world_size, self.traffic)
        wrapped = isinstance(strategy, DDPStrategy) and not self.local
        alike = wrapped and (self.level is not None or not finds_unused(strategy))
        self._averages = alike or self.sharded
        self._reduces = wrapped and not alike and self._ranks.size > 1
        if alike:
            # the wrapper stays: its reducer would send gradients of tasks before they are combined
            wrapper = strategy.model
            assert wrapper is not None
            wrapper.require_backward_grad_sync = False  # type: ignore[assignment]  # of DistributedDataParallel

    @property
    def processes(self) -> int:
        """Return how many processes a step's gradients are of."""
        return self._ranks.size

    def count_step(self) -> None:
        """Count what the strategy has sent for an optimizer step."""
        if self._reduces:
            parts = (self.network, self.balancer)
            trained = (p for part in parts for p in part.parameters() if p.requires_grad)
            buffers = (b for b in moving_buffers(self.network).values() if b.is_floating_point())
            self.traffic.add(sum(tensor.numel() for tensor in chain(trained, buffers)))
        if self._reduces or (self._averages and self._ranks.size > 1):
            self.traffic.synchronisations += 1

    def tune(self, step: int) -> None:
        """Freeze and unfreeze parts of encoders, as their tunings say of an optimizer step."""
        found = self._stepped().items()
        changed = [tuning.at(self.network.encoder(name), step) for name, tuning in found]
        if any(changed) and self.level == "parameters":
            self._shared = None

    def forward(
        self, batches: Mapping[str, Batch], tasks: Sequence[str], trace: ForwardTrace | None = None
    ) -> dict[str, Tensor]:
        """Predict {task: (N, ...)} for training; ``trace`` notes what is made on the way."""
        options: dict[str, Any] = {"trace": trace}
        if self.level == "features":
            options["tap"] = self._shared = FeatureGradients(self._ranks)
        if self.level == "parameters":
            options["separate_graphs"] = True
        return self.network(batches, tasks, **options)  # type: ignore[no-any-return]  # nn.Module's call

    def backward(
        self,
        losses: Mapping[str, Tensor],
        objective: Tensor,
        regularization: Tensor | None,
        is_accumulation_end: bool,
        parameters: Iterable[nn.Parameter],
    ) -> None:
        """Fill ``.grad``; before an optimizer step, average it over the processes.

        Args:
            losses, objective, regularization, is_accumulation_end: as for ``Balancer.backward``.
            parameters: all that the optimizer moves; gone through only where it is needed.
        """
        if self.level == "parameters" and self._shared is None:
            # only now: a precision plugin may have changed the parameters
            self._shared = ParameterGradients(self.network.shared_parameters(), self._ranks)
        self.balancer.backward(
            losses,
            self._shared,
            objective=objective,
            regularization=regularization,
            is_accumulation_end=is_accumulation_end,
        )
        if is_accumulation_end and self._averages:
            # a strategy that shards averages the pieces itself
            average_gradients([p for p in parameters if not is_sharded(p)], self._ranks)
            broadcast_buffers(self.network, self._ranks)

    @property
    def same_rows(self) -> bool:
        """Say whether all tasks are learnt from the same rows, by and large."""
        return self._same_rows and self.network.tasks_share_rows()

    def _stepped(self) -> dict[str, SteppedTuning]:
        """Return {modality: tuning} of encoders of which another part trains from step to step."""
        return {n: t for n, t in self.network.tunings.items() if isinstance(t, SteppedTuning)}


def finds_unused(strategy: Strategy) -> bool:
    """Say whether DDP looks which parameters a step reaches."""
    wrapper = strategy.model
    return isinstance(wrapper, DistributedDataParallel) and wrapper.find_unused_parameters


def is_sharded(parameter: nn.Parameter) -> bool:
    """Say whether a parameter is sharded."""
    return isinstance(parameter, DTensor)
