"""One training step of a model without numbers: what it computes, and what memory it holds."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from datamodules.batch import Batch, Kept
from lightning_modules.balancers.gradient.cut import Cut
from lightning_modules.features import Features
from lightning_modules.multitask import MultiTaskModule
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.optimizers import parameter_groups
from lightning_modules.targets import stacked
from pipeline.planning.balancing import Held, held
from pipeline.planning.pretend import pretended, pretending
from pipeline.planning.rows import Counts, Template
from pipeline.planning.setting import Setting
from pipeline.planning.tally import Tally


@dataclass
class Step:
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
    moving: int = 0
    evaluation: int = 0
    forward: Counter[str] = field(default_factory=Counter)
    backward: Counter[str] = field(default_factory=Counter)


class Rehearsal:
    """Rehearses steps of a module, of which nothing changes: neither weights nor random numbers.

    Args:
        module: built, on any device.
        setting: on what it will run.
        frozen: modalities whose encoders' features are kept, and read in place of the inputs.
    """

    def __init__(
        self, module: MultiTaskModule, setting: Setting, frozen: Sequence[str] = ()
    ) -> None:
        self.module = module
        self.setting = setting
        self.frozen = frozen
        self.level = module.meeting.level
        self.held = held(module.balancer) if self.level == "parameters" else Held()

    def step(self, template: Template, counts: Counts, evaluated: Counts | None = None) -> Step:
        """Rehearse one step.

        Args:
            template: rows.
            counts: {data set: rows on one device}.
            evaluated: {data set: rows of a batch of evaluation}; None: without evaluation.
        """
        found, tally = Step(), Tally()
        with pretending(self.setting.cast):
            network = pretended(self.module.network, self.setting.cast).train()
            balancer = pretended(self.module.balancer, self.setting.cast)
            with tally:
                self._settle(network, balancer, tally, found)
                batches = self._batches(template, counts, network)
                tally.forward.clear()
                with tally.parts(parts_of(network)):
                    self._differentiate(network, batches, tally)
                found.activations = tally.peak - self._base(found)
                found.forward, found.backward = tally.forward.copy(), tally.backward.copy()
                del batches
                for name, rows in (evaluated or {}).items():
                    own = self._batches(template, {name: rows}, network)
                    peak = evaluate(network.eval(), own, self.setting, tally)
                    found.evaluation = max(found.evaluation, peak)
        shared = sum(p.numel() * p.element_size() for p in self._shared(self.module.network))
        found.balancer = round(self.held.always * shared / 4)
        found.combining = round((self.held.peak - self.held.always) * shared / 4)
        return found

    def _settle(
        self, network: MultiTaskNetwork, balancer: nn.Module, tally: Tally, found: Step
    ) -> None:
        """Put in memory what is there between two steps."""
        for tensor in (*network.parameters(), *network.buffers(), *balancer.parameters()):
            tally.add(tensor)
        found.weights = tally.live
        plan = self.module.optimization
        groups = parameter_groups(
            {"": network, "balancer": balancer}, plan.lr, plan.lr_scale, plan.decay
        )
        for group in groups:
            for parameter in group["params"]:
                parameter.grad = torch.empty_like(parameter)
        found.gradients = tally.live - found.weights
        found.state, found.moving = self._optimizer(groups, tally)

    def _optimizer(self, groups: Sequence[Mapping[str, Any]], tally: Tally) -> tuple[int, int]:
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
        optimizer = together(self.module.optimization.optimizer(chosen), self.setting.fused)
        before = tally.restart()
        optimizer.step(lambda: 0.0)
        own = tally.live - before
        state = sum(
            alike[number, parameter.shape, parameter.dtype] * bytes_of(optimizer.state[parameter])
            for number, group in enumerate(optimizer.param_groups)
            for parameter in group["params"]
        )
        share = sum(alike.values()) / len(alike) if self.setting.fused and alike else 1.0
        return state, round((tally.peak - before - own) * share)

    def _differentiate(
        self, network: MultiTaskNetwork, batches: Mapping[str, Batch], tally: Tally
    ) -> None:
        """Run forward and backward, as ``Meeting`` and the balancer do."""
        tally.restart()
        cut = Cut() if self.level == "features" else None
        with self.setting.autocast():
            if cut is not None:
                outputs = network(batches, tap=cut)
            else:
                outputs = network(batches, apart=self.level == "parameters")
            losses = self._losses(network, outputs, batches)
        del outputs
        if self.setting.accumulate == 1:
            for parameter in network.parameters():
                parameter.grad = None
        losses = [loss for loss in losses if loss.requires_grad]
        if self.level == "parameters":
            one_by_one(losses, [p for p in network.parameters() if p.requires_grad])
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
            target = stacked([part.targets[task] for part in parts])
            found.append(self.module.tasks[task].loss(output, target).sum())
        return found

    def _shared(self, network: MultiTaskNetwork) -> list[nn.Parameter]:
        return [p for p in network.shared_parameters() if p.requires_grad]

    def _batches(
        self, template: Template, counts: Counts, network: MultiTaskNetwork
    ) -> dict[str, Batch]:
        """Return the rows of a step, with features in place of what frozen encoders read."""
        batches = template.repeated(counts)
        for batch in batches.values():
            batch.inputs = {n: v.to(self.setting.cast(v.dtype)) for n, v in batch.inputs.items()}
            for modality in [name for name in self.frozen if name in batch.inputs]:
                whole = network.reads_tokens(modality)
                with torch.no_grad():
                    features = network.encoder(modality).backbone(batch.inputs.pop(modality))
                found = features if whole else Features(features.pooled)
                batch.kept[modality] = Kept(found, whole)
        return batches

    def _base(self, found: Step) -> int:
        """Return what is in memory between two steps; the rehearsal keeps no optimizer state."""
        return found.weights + found.gradients


def one_by_one(losses: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> None:
    """Run a backward of each loss, as a balancer at level ``parameters`` does."""
    for number, loss in enumerate(losses, start=1):
        torch.autograd.grad(loss, parameters, retain_graph=number < len(losses), allow_unused=True)


def evaluate(
    network: MultiTaskNetwork, batches: Mapping[str, Batch], setting: Setting, tally: Tally
) -> int:
    """Return the most bytes that predicting a batch needs."""
    before = tally.restart()
    with torch.no_grad(), setting.autocast():
        network(batches)
    return tally.peak - before


def parts_of(network: MultiTaskNetwork) -> dict[str, nn.Module]:
    """Return {name: part} of all parts of a network."""
    return {
        **{f"encoders.{name}": part for name, part in network.encoders.items()},
        **{f"fusions.{name}": part for name, part in network.fusions.items()},
        "trunk": network.trunk,
        **{f"heads.{name}": part for name, part in network.heads.items()},
    }


def together(optimizer: Optimizer, fused: bool) -> Optimizer:
    """Let an optimizer that can go through all parameters at once do so, or not."""
    if "foreach" in inspect.signature(type(optimizer)).parameters:
        for group in optimizer.param_groups:
            group["foreach"] = fused
    return optimizer


def bytes_of(state: Mapping[str, Any]) -> int:
    """Return the bytes of an optimizer's tensors for one parameter."""
    tensors = [value for value in state.values() if isinstance(value, Tensor)]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)
