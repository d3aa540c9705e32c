"""Measures the affinities of a run's tasks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from datamodules.batch import MixedBatch
from lightning_modules.module import MultiTaskModule, as_multitask
from lightning_modules.replay import Replay
from lightning_modules.transferability.gradient_cosine import pairwise_cosines
from lightning_modules.transferability.tag import lookahead_affinity


class MeasureTaskAffinities(Callback):
    """Collects TAG affinities and gradient cosines of all pairs of tasks every n steps.

    For one process. Nothing of the training changes: losses are computed for the occasion, with
    the same dropout before and after the look-ahead, and weights and buffers are put back.

    Args:
        tasks: names of the run's tasks, in the order of rows and columns.
        every_n_steps: optimizer steps between two looks, >= 1.
        lr: of the look-ahead, > 0.

    Attributes:
        affinities, cosines: a matrix (T, T) a look, row = source, column = target; NaN where the
            step lacked one of the two.
        seconds: spent on {``affinity``, ``cosine``}.
    """

    def __init__(self, tasks: Sequence[str], every_n_steps: int, lr: float) -> None:
        self.tasks = list(tasks)
        self.every_n_steps = every_n_steps
        self.lr = lr
        self.affinities: list[Tensor] = []
        self.cosines: list[Tensor] = []
        self.seconds = {"affinity": 0.0, "cosine": 0.0}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: MixedBatch, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            module = as_multitask(pl_module)
            module.engine.tune(trainer.global_step)  # the module's own turn comes after callbacks
            with trainer.precision_plugin.train_step_context():
                self.look(module, batch)

    def look(self, module: MultiTaskModule, batch: MixedBatch) -> None:
        """Add one matrix of each kind, if the batch has two tasks and they share weights."""
        weights = [w for w in module.network.shared_parameters() if w.requires_grad]
        started = time.perf_counter()
        replay = Replay(module.network)
        replay.mark()
        with replay.without_side_effects():
            losses = module.network_losses(batch)
            if len(losses) < 2 or not weights:
                return
            gradients = [gradient_of(loss, weights) for loss in losses.values()]
        places = [self.tasks.index(task) for task in losses]
        found = pairwise_cosines(torch.stack([flat(parts) for parts in gradients]))
        self.cosines.append(self._spread(places, found))
        looked = time.perf_counter()
        before = torch.stack([loss.detach() for loss in losses.values()])
        after = []
        for parts in gradients:
            with moved(weights, parts, -self.lr), replay.replayed():
                after.append(torch.stack(list(module.network_losses(batch).values())))
        found = lookahead_affinity(before.double(), torch.stack(after).double())
        self.affinities.append(self._spread(places, found))
        self.seconds["cosine"] += looked - started
        self.seconds["affinity"] += time.perf_counter() - started

    def _spread(self, places: Sequence[int], found: Tensor) -> Tensor:
        """Return a matrix of some tasks as one of all: (T, T)."""
        whole = torch.full((len(self.tasks), len(self.tasks)), torch.nan, dtype=torch.float64)
        index = torch.tensor(places)
        whole[index[:, None], index] = found.cpu()
        return whole


def gradient_of(loss: Tensor, weights: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return the gradient of one loss, 0 where it doesn't reach."""
    grads = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(grads, weights, strict=True)]


def flat(parts: Sequence[Tensor]) -> Tensor:
    """Return tensors as one: (P,)."""
    return torch.cat([part.flatten() for part in parts])


@contextmanager
def moved(weights: Sequence[nn.Parameter], step: Sequence[Tensor], size: float) -> Iterator[None]:
    """Inside, weights are moved by ``size`` times ``step``; afterwards they are restored."""
    kept = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, part in zip(weights, step, strict=True):
            weight.add_(part, alpha=size)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, old in zip(weights, kept, strict=True):
                weight.copy_(old)
