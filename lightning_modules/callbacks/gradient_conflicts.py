"""Logs how the tasks' gradients conflict, every n steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from lightning_modules.balancers.gradient_base import GradientBalancer
from lightning_modules.balancers.shared_gradients import GradientReducer
from lightning_modules.metrics import publish
from lightning_modules.module import MultiTaskModule, as_multitask
from lightning_modules.tuning.routed_adapters import shared_parameters

MOST_TASKS = 12  # whose pairs are logged one by one


class LogGradientConflicts(Callback):
    """Logs lengths, cosines and conflicts of the tasks' gradients every n optimizer steps.

    A balancer that looks at gradients tells what it saw. For one that weighs losses, the gradients
    of the trunk's parameters, or of a language model's last block, are computed for the occasion:
    nothing of the training changes. Where these parameters are sharded there is nothing to look at.

    Names: ``gradient/norm/<task>``, ``gradient/cosine/<task>/<task>``, ``gradient/conflicts``
    (share of the pairs of tasks whose cosine is negative).

    Args:
        every_n_steps: optimizer steps between two looks, >= 0; 0 never looks.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._found: tuple[tuple[str, ...], Tensor] | None = None  # tasks, their Gramian

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Compute the gradients where the balancer doesn't."""
        module, due = as_multitask(pl_module), self._is_due(trainer)
        self._found = None
        if isinstance(module.balancer, GradientBalancer):
            module.balancer.watched = due
        elif due and len(module.losses) > 1 and not module.engine.sharded:
            parameters = watched_parameters(module)
            if parameters:
                gramian = gramian_of(module.losses, parameters, module.engine.processes)
                self._found = tuple(module.losses), gramian

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Log what was seen in the step that is done."""
        balancer = as_multitask(pl_module).balancer
        seen = balancer.seen if isinstance(balancer, GradientBalancer) else None
        if seen is not None and seen.gramian is not None and balancer.watched:
            self._found = seen.tasks, seen.gramian
        if self._found is not None:
            publish(trainer, gradient_metrics(*self._found))
        self._found = None

    def _is_due(self, trainer: Trainer) -> bool:
        return self.every_n_steps > 0 and trainer.global_step % self.every_n_steps == 0


def watched_parameters(module: MultiTaskModule) -> list[nn.Parameter]:
    """Return the trunk's shared parameters, or all shared ones, if it has none that train.

    Answers in words go past the trunk: where there are some, the shared parameters of the language
    model's last block that trains.
    """
    network = module.network
    if network.prompted():
        shared = {id(p) for p in shared_parameters(network.language_model) if p.requires_grad}
        blocks = [
            [p for p in block if id(p) in shared] for block in network.language_model.tuned_groups()
        ]
        return next((block for block in reversed(blocks) if block), [])
    found = [p for p in network.trunk.shared_parameters() if p.requires_grad]
    return found or [p for p in network.shared_parameters() if p.requires_grad]


def gramian_of(
    losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter], processes: int
) -> Tensor:
    """Return the Gramian of the losses' gradients: (T, T), float64."""
    rows = []
    for loss in losses.values():
        grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        pairs = zip(grads, parameters, strict=True)
        rows.append(
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
        )
    return GradientReducer(processes).gramian(torch.stack(rows)).cpu()


def gradient_metrics(tasks: Sequence[str], gramian: Tensor) -> dict[str, float]:
    """Return the metrics of a Gramian (T, T)."""
    norms = gramian.diagonal().clamp(min=0).sqrt()
    cosines = gramian / (norms[:, None] * norms[None, :]).clamp(min=1e-300)
    found = {f"gradient/norm/{t}": n for t, n in zip(tasks, norms.tolist(), strict=True)}
    pairs = list(combinations(range(len(tasks)), 2))
    if pairs:
        values = [cosines[i, j].item() for i, j in pairs]
        found["gradient/conflicts"] = sum(value < 0 for value in values) / len(pairs)
        if len(tasks) <= MOST_TASKS:
            named = zip(pairs, values, strict=True)
            found |= {f"gradient/cosine/{tasks[i]}/{tasks[j]}": v for (i, j), v in named}
    return found
