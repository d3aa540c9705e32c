"""One training step without values: what it computes, and what memory it holds."""

from __future__ import annotations

import copy
import gc
import inspect
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.optim import Optimizer

from datamodules.batch import Batch, CachedFeatures
from datamodules.features import Features
from datamodules.loaders import EpochPlan, RankSlice, TrainingSteps
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.base import InputStore
from datamodules.split_dataset import SplitDataset
from lightning_modules.balancers.base import Balancer
from lightning_modules.balancers.shared_gradients import FeatureGradients, ParameterGradients
from lightning_modules.module import MultiTaskModule
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.optimization import parameter_groups
from lightning_modules.task_rows import concat_targets
from pipeline.planning.counter import FlopMemoryCounter
from pipeline.planning.hardware import HardwareSetup
from pipeline.planning.meta_tensors import fake_copy, fake_tensors

STEPS = 100  # of the first epoch, whose lengths are looked at
Counts = Mapping[str, int]  # {data set: rows}


@dataclass(frozen=True)
class BatchTemplate:
    """One row of each data set, to be repeated.

    batches: {data set: a batch of one row, of the length to which a batch is padded}.
    """

    batches: Mapping[str, Batch]

    def sizes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Return {data set: {modality: shape of its row}}."""
        return {
            name: {modality: tuple(rows.shape) for modality, rows in one.inputs.items()}
            for name, one in self.batches.items()
        }

    def repeated(self, counts: Counts) -> dict[str, Batch]:
        """Return batches of so many rows, without their numbers; inside ``pretending``."""
        return {name: repeat_row(self.batches[name], rows) for name, rows in counts.items()}


def repeat_row(one: Batch, rows: int) -> Batch:
    def grown(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            name: torch.empty((rows, *tensor.shape[1:]), dtype=tensor.dtype)
            for name, tensor in tensors.items()
        }

    index = torch.empty((rows,), dtype=torch.int64)
    targets, present = grown(one.targets), grown(one.present)
    return Batch(
        grown(one.inputs),
        targets,
        present,
        index,
        words=grown(one.words),
        held_out=grown(one.held_out),
        prompts=grown(one.prompts),
    )


def batch_templates(data: MixedDataModule) -> tuple[BatchTemplate, BatchTemplate]:
    """Return rows of the length to which a batch is padded: usually, and at most."""
    plan = EpochPlan(data.sampler, data.sizes)
    steps = TrainingSteps(data.parts["train"], plan, data.seed, RankSlice())
    usual: dict[str, Batch] = {}
    longest: dict[str, Batch] = {}
    for name, part in steps.parts.items():
        rows = [
            steps.streams[name].rows(*plan.stretch(name, step))[0]
            for step in range(min(STEPS, data.epoch_steps))
        ]
        by_store = {m: padding_rows(store, part, rows) for m, store in part.stores.items()}
        asked = {t: padding_rows(store, part, rows) for t, store in part.prompts.items()}
        for place, found in enumerate((usual, longest)):
            chosen = {m: own[place] for m, own in by_store.items()}
            said = {task: own[place] for task, own in asked.items()}
            found[name] = one_row_batch(part, chosen, said)
    return BatchTemplate(usual), BatchTemplate(longest)


def padding_rows(store: InputStore, part: SplitDataset, steps: list[np.ndarray]) -> tuple[int, int]:
    """Return the store's rows to which a step is padded: that of the middle step, of the widest."""
    lengths = store.lengths()
    if lengths is None:
        first = int(part.rows[store.has[part.rows]][0]) if store.has[part.rows].any() else 0
        return first, first
    found = []
    for rows in steps:
        own = part.rows[rows]
        found.append(int(own[np.argmax(lengths[own])]))
    found.sort(key=lambda row: int(lengths[row]))
    return found[len(found) // 2], found[-1]


def one_row_batch(part: SplitDataset, chosen: Mapping[str, int], asked: Mapping[str, int]) -> Batch:
    batch = Batch({}, {}, {}, torch.zeros(1, dtype=torch.int64))
    for modality, row in chosen.items():
        rows, store = np.array([row]), part.stores[modality]
        batch.inputs[modality] = store.rows(rows)
        words = store.words(rows)
        if words is not None:
            batch.words[modality] = words
    for task, row in asked.items():
        batch.prompts[task] = part.prompts[task].rows(np.array([row]))
    batch.held_out = {task: values[:1] for task, values in part.held_out.items()}
    batch.targets = {task: values[:1] for task, values in part.targets.items()}
    for task, found in part.maps.items():
        batch.targets[task] = found.targets(np.array([chosen[found.modality]]))
    batch.present = {task: mask[:1] for task, mask in part.present.items()}
    return batch


def rows_per_device(counts: Counts, devices: int) -> dict[str, int]:
    """Return the most rows of each data set that one of the devices has in a step."""
    return {name: math.ceil(rows / devices) for name, rows in counts.items()}


PROBE_SIZES = (1 << 12, 1 << 14)  # numbers of two small problems


@dataclass(frozen=True)
class BalancerMemory:
    """Bytes for each shared number of 4 bytes: always held, and at most while combining."""

    always: float = 0.0
    peak: float = 0.0


def balancer_memory(balancer: Balancer) -> BalancerMemory:
    """Return what a balancer of gradients at level ``parameters`` needs besides the gradient.

    Found by two steps on problems of two sizes, with real numbers and a copy of the balancer: its
    T rows, and whatever else it copies, grow with the size.
    """
    (live_small, peak_small), (live, peak) = (
        bytes_of_two_steps(balancer, size) for size in PROBE_SIZES
    )
    growth, gradient = PROBE_SIZES[1] - PROBE_SIZES[0], 4
    return BalancerMemory(
        (live - live_small) / growth - gradient, (peak - peak_small) / growth - gradient
    )


def bytes_of_two_steps(balancer: Balancer, size: int) -> tuple[int, int]:
    """Return the bytes that are live after two steps, and at most in the second."""
    own = copy.deepcopy(balancer)
    draws = torch.Generator().manual_seed(0)
    cotangents = {task: torch.randn(size, generator=draws) for task in own.tasks}
    weights = nn.Parameter(torch.ones(size))
    shared = ParameterGradients([weights])
    flop_counter = FlopMemoryCounter()
    with isolate_rng(), young_objects(), flop_counter:
        own.begin_epoch(0)
        for _ in range(2):
            weights.grad = None
            gc.collect(0)
            flop_counter.restart()
            losses = {task: weights @ slope + 2.0 * size for task, slope in cotangents.items()}
            own.backward(losses, shared)
            del losses
        gc.collect(1)
    return flop_counter.live, flop_counter.peak


@contextmanager
def young_objects() -> Iterator[None]:
    """Keep what is made inside among the young objects, until they are searched for garbage.

    A search of all takes a third of a second in a process that has imported what a run needs.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass
class StepCounts:
    """Bytes, on a device that holds everything, and operations.

    weights: parameters and buffers; gradients; state: of the optimizer.
    balancer: kept between steps; combining: more than that, at most, while gradients are combined.
    activations: at most in forward and backward, the batch among them, beyond all the above.
    moving: at most in the optimizer's step.
    evaluation: at most while evaluating.
    forward, backward: {part: floating-point operations of the step}.
    """

    weights: int = 0
    gradients: int = 0
    state: int = 0
    balancer: int = 0
    combining: int = 0
    activations: int = 0
    updating: int = 0
    evaluation: int = 0
    forward: Counter[str] = field(default_factory=Counter)
    backward: Counter[str] = field(default_factory=Counter)


class DryRun:
    """Rehearses steps of a module, of which nothing changes: neither weights nor random numbers.

    Args:
        module: built, on any device.
        setting: on what it will run.
        frozen: modalities whose encoders' features are kept, and read in place of the inputs.
    """

    def __init__(
        self, module: MultiTaskModule, setting: HardwareSetup, frozen: Sequence[str] = ()
    ) -> None:
        self.module = module
        self.setting = setting
        self.frozen = frozen
        self.level = module.engine.level
        self.held = (
            balancer_memory(module.balancer) if self.level == "parameters" else BalancerMemory()
        )

    def step(
        self, template: BatchTemplate, counts: Counts, evaluated: Counts | None = None
    ) -> StepCounts:
        """Rehearse one step.

        Args:
            template: rows.
            counts: {data set: rows on one device}.
            evaluated: {data set: rows of a batch of evaluation}; None: without evaluation.
        """
        found, flop_counter = StepCounts(), FlopMemoryCounter()
        with fake_tensors(self.setting.cast):
            network = fake_copy(self.module.network, self.setting.cast).train()
            balancer = fake_copy(self.module.balancer, self.setting.cast)
            with flop_counter:
                self._fill_memory(network, balancer, flop_counter, found)
                batches = self._batches(template, counts, network)
                flop_counter.forward.clear()
                with flop_counter.parts(network_parts(network)):
                    self._forward_backward(network, batches, flop_counter)
                found.activations = flop_counter.peak - self._base(found)
                found.forward, found.backward = (
                    flop_counter.forward.copy(),
                    flop_counter.backward.copy(),
                )
                del batches
                for name, rows in (evaluated or {}).items():
                    own = self._batches(template, {name: rows}, network)
                    peak = evaluation_peak(network.eval(), own, self.setting, flop_counter)
                    found.evaluation = max(found.evaluation, peak)
        shared = sum(p.numel() * p.element_size() for p in self._shared(self.module.network))
        found.balancer = round(self.held.always * shared / 4)
        found.combining = round((self.held.peak - self.held.always) * shared / 4)
        return found

    def _fill_memory(
        self,
        network: MultiTaskNetwork,
        balancer: nn.Module,
        flop_counter: FlopMemoryCounter,
        found: StepCounts,
    ) -> None:
        for tensor in (*network.parameters(), *network.buffers(), *balancer.parameters()):
            flop_counter.add(tensor)
        found.weights = flop_counter.live
        plan = self.module.optimization
        groups = parameter_groups(
            {"": network, "balancer": balancer}, plan.lr, plan.lr_scale, plan.decay
        )
        for group in groups:
            for parameter in group["params"]:
                parameter.grad = torch.empty_like(parameter)
        found.gradients = flop_counter.live - found.weights
        found.state, found.updating = self._optimizer(groups, flop_counter)

    def _optimizer(
        self, groups: Sequence[Mapping[str, Any]], flop_counter: FlopMemoryCounter
    ) -> tuple[int, int]:
        """Return the bytes of the optimizer's state, and of what a step needs for a while.

        A step of the optimizer itself tells, on one parameter of each shape.
        """
        alike: Counter[Any] = Counter()
        chosen: list[dict[str, Any]] = []
        for number, group in enumerate(groups):
            chosen.append({**group, "params": []})
            for parameter in group["params"]:
                key = number, parameter.shape, parameter.dtype
                if key not in alike:
                    chosen[-1]["params"].append(parameter)
                alike[key] += 1
        optimizer = set_foreach(self.module.optimization.optimizer(chosen), self.setting.fused)
        before = flop_counter.restart()
        optimizer.step(lambda: 0.0)
        own = flop_counter.live - before
        state = sum(
            alike[number, parameter.shape, parameter.dtype]
            * state_bytes(optimizer.state[parameter])
            for number, group in enumerate(optimizer.param_groups)
            for parameter in group["params"]
        )
        share = sum(alike.values()) / len(alike) if self.setting.fused and alike else 1.0
        return state, round((flop_counter.peak - before - own) * share)

    def _forward_backward(
        self,
        network: MultiTaskNetwork,
        batches: Mapping[str, Batch],
        flop_counter: FlopMemoryCounter,
    ) -> None:
        flop_counter.restart()
        cut = FeatureGradients() if self.level == "features" else None
        with self.setting.autocast():
            if cut is not None:
                outputs = network(batches, tap=cut)
            else:
                outputs = network(batches, separate_graphs=self.level == "parameters")
            losses = self._losses(network, outputs, batches)
        del outputs
        if self.setting.accumulate == 1:
            for parameter in network.parameters():
                parameter.grad = None
        losses = [loss for loss in losses if loss.requires_grad]
        if self.level == "parameters":
            backward_per_loss(losses, [p for p in network.parameters() if p.requires_grad])
        elif losses:
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]  # torch's is not annotated
        if cut is not None and losses:
            cut.apply(list(network.heads), torch.ones(len(network.heads)))

    def _losses(
        self, network: MultiTaskNetwork, outputs: Mapping[str, Tensor], batches: Mapping[str, Batch]
    ) -> list[Tensor]:
        found = []
        for task, output in outputs.items():
            parts = [batches[name] for name in network.routes[task]]
            target = concat_targets([part.targets[task] for part in parts])
            found.append(self.module.tasks[task].loss(output, target).sum())
        return found

    def _shared(self, network: MultiTaskNetwork) -> list[nn.Parameter]:
        return [p for p in network.shared_parameters() if p.requires_grad]

    def _batches(
        self, template: BatchTemplate, counts: Counts, network: MultiTaskNetwork
    ) -> dict[str, Batch]:
        batches = template.repeated(counts)
        for batch in batches.values():
            batch.inputs = {n: v.to(self.setting.cast(v.dtype)) for n, v in batch.inputs.items()}
            for modality in [name for name in self.frozen if name in batch.inputs]:
                whole = network.reads_tokens(modality)
                with torch.no_grad():
                    features = network.encoder(modality).backbone(batch.inputs.pop(modality))
                found = features if whole else Features(features.pooled)
                batch.cached[modality] = CachedFeatures(found, whole)
        return batches

    def _base(self, found: StepCounts) -> int:
        """Return what is in memory between two steps; the rehearsal keeps no optimizer state."""
        return found.weights + found.gradients


def backward_per_loss(losses: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> None:
    """Run a backward of each loss, as a balancer at level ``parameters`` does."""
    for number, loss in enumerate(losses, start=1):
        torch.autograd.grad(loss, parameters, retain_graph=number < len(losses), allow_unused=True)


def evaluation_peak(
    network: MultiTaskNetwork,
    batches: Mapping[str, Batch],
    setting: HardwareSetup,
    flop_counter: FlopMemoryCounter,
) -> int:
    """Return the most bytes that predicting a batch needs."""
    before = flop_counter.restart()
    with torch.no_grad(), setting.autocast():
        network(batches)
    return flop_counter.peak - before


def network_parts(network: MultiTaskNetwork) -> dict[str, nn.Module]:
    """Return {name: part} of all parts of a network."""
    return {
        **{f"encoders.{name}": part for name, part in network.encoders.items()},
        **{f"fusions.{name}": part for name, part in network.fusions.items()},
        "trunk": network.trunk,
        **{f"heads.{name}": part for name, part in network.heads.items()},
    }


def set_foreach(optimizer: Optimizer, fused: bool) -> Optimizer:
    """Let an optimizer that can go through all parameters at once do so, or not."""
    if "foreach" in inspect.signature(type(optimizer)).parameters:
        for group in optimizer.param_groups:
            group["foreach"] = fused
    return optimizer


def state_bytes(state: Mapping[str, Any]) -> int:
    """Return the bytes of an optimizer's tensors for one parameter."""
    tensors = [value for value in state.values() if isinstance(value, Tensor)]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)
