"""What a run costs: operations a row by part of the model, memory by what it is for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from torch import nn

from datamodules.mixed import MixedDataModule
from lightning_modules.multitask import MultiTaskModule
from lightning_modules.network import MultiTaskNetwork, combination
from pipeline.kept_features import kept_in_training
from pipeline.planning.rows import Counts, on_one_device, templates
from pipeline.planning.setting import Setting
from pipeline.planning.stepping import Rehearsal, Step, parts_of
from pipeline.planning.tally import REST

Inputs = Mapping[str, Sequence[str]]  # {data set: its modalities}
GATHERED = 3  # blocks of a sharded model that a device holds whole: in use, next, its gradient


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
class Memory:
    """Bytes on one device, at the peak of a step.

    weights: parameters and buffers; gradients; optimizer: its state.
    average: copies of the weights: their moving average, or those of the last synchronisation.
    exchange: second copy of the gradients, to be sent; or blocks of a sharded model, gathered.
    balancer: rows of gradients and the like.
    activations: what else there is at most in training, in the optimizer's step or in evaluation.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    exchange: int
    balancer: int
    activations: int

    @property
    def total(self) -> int:
        """Return the sum."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Cost:
    """rows: {data set: rows of a step on one device}; a_row: {data set: operations a row}."""

    parts: Sequence[PartCost]
    memory: Memory
    rows: Counts
    a_row: Mapping[str, float]


class Estimate:
    """Costs of a module on rows of a data module that is set up, for any size of batch.

    Args:
        module: whose tensors need not have numbers.
        data: that is set up.
        setting: on what it will run.
    """

    def __init__(self, module: MultiTaskModule, data: MixedDataModule, setting: Setting) -> None:
        self.module = module
        self.data = data
        self.setting = setting
        self.usual, self.longest = templates(data)
        self.rehearsal = Rehearsal(module, setting, kept_in_training(module.network, data))

    def cost(self, counts: Counts | None = None) -> Cost:
        """Return the cost of a step; operations are those of batches padded as usual.

        Args:
            counts: {data set: rows over all devices}; None: those of the run.
        """
        own = on_one_device(counts or self.data.sampler.counts(self.data.sizes), self.devices)
        step = self._longest_step(own)
        same = self.usual.sizes() == self.longest.sizes()
        usual = step if same else self.rehearsal.step(self.usual, own)
        inputs = inputs_of(self.data)
        parts = part_costs(self.module, inputs, usual, own)
        a_row = {name: operations_a_row(self.module, inputs, parts, name) for name in own}
        return Cost(parts, self.in_memory(step), own, a_row)

    def memory(self, counts: Counts) -> Memory:
        """Return the memory that a step with these rows over all devices needs."""
        return self.in_memory(self._longest_step(on_one_device(counts, self.devices)))

    @property
    def devices(self) -> int:
        """Number of devices."""
        return self.setting.devices

    def _longest_step(self, own: Counts) -> Step:
        size = self.data.options.evaluation_batch_size
        held = {name: min(size, part.size) for name, part in self.data.parts["valid"].items()}
        return self.rehearsal.step(self.longest, own, on_one_device(held, self.devices))

    def in_memory(self, step: Step) -> Memory:
        """Return what a step holds on one device."""
        share = self.devices if self.setting.sharded else 1
        exchange = step.gradients if self.setting.exchanged else 0
        if self.setting.sharded and share > 1:
            exchange = GATHERED * largest_block(self.module.network, self.setting)
        return Memory(
            weights=step.weights // share,
            gradients=step.gradients // share,
            optimizer=step.state // share,
            average=self.setting.copies * step.weights // share,
            exchange=exchange,
            balancer=step.balancer,
            activations=max(
                step.activations, step.combining, step.moving // share, step.evaluation
            ),
        )


def largest_block(network: MultiTaskNetwork, setting: Setting) -> int:
    """Return the bytes of the largest block of an encoder, or of the trunk or a head."""
    blocks: list[Iterable[nn.Parameter]] = [network.trunk.parameters()]
    blocks += [head.parameters() for head in network.heads.values()]
    for name in network.encoders:
        blocks += network.encoder(name).tuned_groups()
    return max(sum(p.numel() * setting.cast(p.dtype).itemsize for p in block) for block in blocks)


def part_costs(module: MultiTaskModule, inputs: Inputs, step: Step, own: Counts) -> list[PartCost]:
    """Return the costs of all parts of the model, the balancer among them."""
    named = {**parts_of(module.network), "balancer": module.balancer, REST: nn.Module()}
    found = []
    for name, part in named.items():
        weights = list(part.parameters())
        rows = sum(own[one] for one in through(module, inputs, name))
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


def through(module: MultiTaskModule, inputs: Inputs, part: str) -> list[str]:
    """Return the data sets whose rows go through a part."""
    kind, _, name = part.partition(".")
    if kind == "encoders":
        return [one for one, modalities in inputs.items() if name in modalities]
    if kind == "fusions":
        return [one for one, modalities in inputs.items() if combination(modalities) == name]
    return list(module.network.routes[name]) if kind == "heads" else list(inputs)


def inputs_of(data: MixedDataModule) -> Inputs:
    """Return {data set: its modalities}."""
    return {name: list(spec.inputs) for name, spec in data.datasets.items()}


def operations_a_row(
    module: MultiTaskModule, inputs: Inputs, parts: Sequence[PartCost], dataset: str
) -> float:
    """Return the operations, forward and backward, of a row of a data set."""
    return sum(
        part.forward + part.backward
        for part in parts
        if dataset in through(module, inputs, part.name)
    )
