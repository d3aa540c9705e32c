"""What a run costs: operations per row by part of the model, memory by use, the largest batch."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torchmetrics import Metric

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.building import build_balancer
from lightning_modules.module import MultiTaskModule
from lightning_modules.network import MultiTaskNetwork, combination
from lightning_modules.views import TEXT
from pipeline.build import build_datamodule, build_module
from pipeline.frozen_features import cacheable_modalities
from pipeline.planning.counter import LOSSES_PART
from pipeline.planning.dry_run import (
    Counts,
    DryRun,
    StepCounts,
    batch_templates,
    network_parts,
    rows_per_device,
)
from pipeline.planning.hardware import HardwareSetup, hardware_setup
from pipeline.text_format import format_bytes
from pollinate.errors import PollinateError

DatasetModalities = Mapping[str, Sequence[str]]  # {data set: its modalities}
GATHERED_BLOCKS = (
    3  # blocks of a sharded model that a device holds whole: in use, next, its gradient
)


@dataclass(frozen=True)
class PartCost:
    """A part of the model.

    parameters, trainable: numbers.
    rows: of a step on one device that go through it.
    forward, backward: floating-point operations a row.
    """

    name: str
    parameters: int
    trainable: int
    rows: int
    forward: float
    backward: float


@dataclass(frozen=True)
class MemoryCost:
    """Bytes on one device, at the peak of a step.

    weights: parameters and buffers; gradients; optimizer: its state.
    average: copies of the weights: their moving average, or those of the last synchronisation.
    exchange: second copy of the gradients, to be sent; or blocks of a sharded model, gathered.
    balancer: rows of gradients and the like.
    metrics: what the scores of training and evaluation count.
    activations: what else there is at most in training, in the optimizer's step or in evaluation.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    exchange: int
    balancer: int
    metrics: int
    activations: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


@dataclass(frozen=True)
class StepCost:
    """rows: {data set: rows of a step on one device}; a_row: {data set: operations a row}."""

    parts: Sequence[PartCost]
    memory: MemoryCost
    rows: Counts
    row_flops: Mapping[str, float]


class CostEstimator:
    """Costs of a module on rows of a data module that is set up, for any size of batch."""

    def __init__(
        self, module: MultiTaskModule, data: MixedDataModule, setting: HardwareSetup
    ) -> None:
        self.module = module
        self.data = data
        self.setting = setting
        self.usual, self.longest = batch_templates(data)
        self.dry_run = DryRun(module, setting, cacheable_modalities(module.network, data))

    def cost(self, counts: Counts | None = None) -> StepCost:
        """Return the cost of a step; operations are those of batches padded as usual.

        Args:
            counts: {data set: rows over all devices}; None: those of the run.
        """
        own = rows_per_device(counts or self.data.sampler.counts(self.data.sizes), self.devices)
        step = self._longest_step(own)
        same = self.usual.sizes() == self.longest.sizes()
        usual = step if same else self.dry_run.step(self.usual, own)
        inputs = dataset_modalities(self.data)
        parts = part_costs(self.module, inputs, usual, own)
        row_flops = {name: flops_per_row(self.module, inputs, parts, name) for name in own}
        return StepCost(parts, self.memory_cost(step), own, row_flops)

    def memory(self, counts: Counts) -> MemoryCost:
        return self.memory_cost(self._longest_step(rows_per_device(counts, self.devices)))

    @property
    def devices(self) -> int:
        return self.setting.devices

    def _longest_step(self, own: Counts) -> StepCounts:
        size = self.data.evaluation_batch_size
        held = {name: min(size, part.size) for name, part in self.data.parts["valid"].items()}
        return self.dry_run.step(self.longest, own, rows_per_device(held, self.devices))

    def memory_cost(self, step: StepCounts) -> MemoryCost:
        share = self.devices if self.setting.sharded else 1
        exchange = step.gradients if self.setting.exchanged else 0
        if self.setting.sharded and share > 1:
            exchange = GATHERED_BLOCKS * largest_block(self.module.network, self.setting)
        return MemoryCost(
            weights=step.weights // share,
            gradients=step.gradients // share,
            optimizer=step.state // share,
            average=self.setting.copies * step.weights // share,
            exchange=exchange,
            balancer=step.balancer,
            metrics=metric_bytes(self.module),
            activations=max(
                step.activations, step.combining, step.updating // share, step.evaluation
            ),
        )


def metric_bytes(module: nn.Module) -> int:
    """Return the bytes of all metrics' states, and of the values from which they start anew."""
    states = [
        (getattr(metric, name), start)
        for metric in module.modules()
        if isinstance(metric, Metric)
        for name, start in metric._defaults.items()
        if isinstance(start, Tensor)
    ]
    return sum(now.nbytes + start.untyped_storage().nbytes() for now, start in states)


def largest_block(network: MultiTaskNetwork, setting: HardwareSetup) -> int:
    """Return the bytes of the largest block of an encoder, or of the trunk or a head."""
    blocks: list[Iterable[nn.Parameter]] = [network.trunk.parameters()]
    blocks += [head.parameters() for head in network.heads.values()]
    for name in network.encoders:
        blocks += network.encoder(name).tuned_groups()
    return max(sum(p.numel() * setting.cast(p.dtype).itemsize for p in block) for block in blocks)


def part_costs(
    module: MultiTaskModule, inputs: DatasetModalities, step: StepCounts, own: Counts
) -> list[PartCost]:
    named = {**network_parts(module.network), "balancer": module.balancer, LOSSES_PART: nn.Module()}
    found = []
    for name, part in named.items():
        weights = list(part.parameters())
        rows = sum(own[one] for one in datasets_through(module, inputs, name))
        found.append(
            PartCost(
                name,
                sum(p.numel() for p in weights),
                sum(p.numel() for p in weights if p.requires_grad),
                rows,
                step.forward[name] / max(1, rows),
                step.backward[name] / max(1, rows),
            )
        )
    return [one for one in found if one.parameters or one.forward or one.backward]


def datasets_through(module: MultiTaskModule, inputs: DatasetModalities, part: str) -> list[str]:
    """Return the data sets whose rows go through a part."""
    kind, _, name = part.partition(".")
    if kind == "encoders":
        network = module.network
        asked = {one for task in network.prompted() for one in network.routes[task]}
        asked = asked if name == TEXT else set()
        return [one for one, own in inputs.items() if name in own or one in asked]
    if kind == "fusions":
        return [one for one, modalities in inputs.items() if combination(modalities) == name]
    return list(module.network.routes[name]) if kind == "heads" else list(inputs)


def dataset_modalities(data: MixedDataModule) -> DatasetModalities:
    """Return {data set: its modalities}."""
    return {name: list(spec.inputs) for name, spec in data.datasets.items()}


def flops_per_row(
    module: MultiTaskModule, inputs: DatasetModalities, parts: Sequence[PartCost], dataset: str
) -> float:
    """Return the operations, forward and backward, of a row of a data set."""
    return sum(
        part.forward + part.backward
        for part in parts
        if dataset in datasets_through(module, inputs, part.name)
    )


TRIES = 8
CLOSE_ENOUGH = 0.97  # of the memory, which is as near as a search need come


def largest_batch(estimate: CostEstimator, limit: int) -> int:
    """Return the largest ``sampler.batch_size``, rows over all devices, that fits.

    Memory grows with the rows nearly as a straight line: each try is where the line through the
    last two meets the limit.

    Args:
        estimate: tells the memory of any size.
        limit: bytes of each device.
    """
    data = estimate.data
    low = max(len(data.sizes), 1) * estimate.devices
    needed = bytes_needed(estimate, low)
    if needed > limit:
        raise PollinateError(too_small_message(estimate, limit, needed))
    high, most = low, needed
    beyond: int | None = None
    tried = max(2 * low, data.sampler.batch_size)
    for _ in range(TRIES):
        found = bytes_needed(estimate, tried)
        if found <= limit:
            high, most = tried, found
        else:
            beyond = tried
        if most >= CLOSE_ENOUGH * limit or (
            beyond is not None and beyond - high <= estimate.devices
        ):
            break
        slope = (found - needed) / (tried - low) if tried > low else 0
        tried = next_batch_size(
            high, beyond, round(low + (limit - needed) / slope) if slope > 0 else None
        )
    return high - high % estimate.devices


def next_batch_size(fits: int, beyond: int | None, guess: int | None) -> int:
    """Return a size above one that fits and below one that doesn't, near the guess."""
    if guess is None:
        return 4 * fits
    if beyond is None:
        return max(fits + 1, guess)
    return min(max(fits + 1, guess), beyond - 1) if beyond - fits > 1 else fits


def bytes_needed(estimate: CostEstimator, rows: int) -> int:
    return estimate.memory(counts_of_batch_size(estimate.data, rows)).total


def counts_of_batch_size(data: MixedDataModule, rows: int) -> dict[str, int]:
    """Return {data set: rows} of a step of another size."""
    sampler = copy.copy(data.sampler)
    sampler.batch_size = rows
    return sampler.counts(data.sizes)


def too_small_message(estimate: CostEstimator, limit: int, needed: int) -> str:
    sharding = "" if estimate.setting.sharded else ", trainer.strategy=fsdp2 on several devices"
    return (
        f"memory must be at least {format_bytes(needed)}, which one row of each data set needs on "
        f"each device, got {format_bytes(limit)}; try encoder.MODALITY.checkpointing=true, "
        f"encoder.MODALITY.tune=frozen or lora{sharding}, or a smaller model"
    )


def cost_estimator(config: Mapping[str, Any]) -> CostEstimator:
    """Return what tells the cost of a configuration's run.

    Raises:
        PollinateError: the data can't be read, the setting isn't known, or a run would be refused.
    """
    setting = hardware_setup(config)
    data = build_datamodule(config)
    data.setup()
    module = build_meta_module(config, data)
    strategy = config["trainer"].get("strategy") or "auto"
    module.engine.choose(f"trainer={strategy}", not setting.sharded, setting.sharded)
    return CostEstimator(module, data, setting)


def build_meta_module(config: Mapping[str, Any], data: MixedDataModule) -> MultiTaskModule:
    """Return the module with shapes alone, or with weights from scratch where that can't be."""
    try:
        with torch.device("meta"):
            module = build_module(config, data, load=False)
    except (NotImplementedError, RuntimeError):
        # some networks look at numbers while they are built
        with isolate_rng():
            return build_module(config, data, load=False)
    # what a balancer keeps is found with real numbers
    module.balancer = module.engine.balancer = build_balancer(config, list(data.tasks))
    return module
