"""Which models answer a task together, and how much each counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from lightning_modules.tasks.base import Task

BAGS = 10  # halves of the rows on which models are selected
FEW_MODELS = 4  # up to which a selection looks at all, else at half of them
MOST_STEPS = 15  # models that a selection takes, with those that it takes again
PATIENCE = 4  # steps without a gain after which it ends
FEWEST = 20  # rows below which the best model answers alone

Quality = tuple[float, float]  # the task's score, then minus its loss, which decides between equals


@dataclass(frozen=True)
class Selection:
    """Who answers a task.

    weights: {model: share of its answer, > 0}, sum 1.
    score: of their answer on all validation rows, which chose them.
    estimate: mean score of selections on rows that they weren't made on; what to expect of new
        rows, up to what the models' own training took from the validation rows. Each of these
        selections has half of the rows and of the models, so it is rather too low.
    """

    weights: Mapping[str, float]
    score: float
    estimate: float


def select(
    task: Task,
    outputs: Mapping[str, Tensor],
    target: Tensor,
    seed: int = 0,
    allowed: Callable[[Sequence[str]], bool] = lambda _: True,
) -> Selection:
    """Return the models that answer best together.

    Models are added one by one, with replacement, each time the one with which the answers are best
    on the rows; a model's share is how often it was taken. That is done on random halves of the
    rows, each with half of the models, and the shares are averaged: one selection on few rows fits
    them too well. The result is never worse on all rows than the best model alone. Source: Caruana
    et al. 2004, "Ensemble selection from libraries of models", sections 2 to 2.3.

    Args:
        task: says how answers are averaged and scored.
        outputs: {model: (N, ...)}, the same rows.
        target: (N, ...).
        seed: of the halves.
        allowed: says whether models may answer together; one alone that may not is never taken.

    Raises:
        ValueError: no model may be taken.
    """
    models = [name for name in outputs if allowed([name])]
    if not models:
        raise ValueError("no model is allowed")
    judge = Judge(task, target)
    alone = {name: judge(outputs[name]) for name in models}
    best = max(models, key=lambda name: alone[name])
    rows = len(target)
    lone = Selection({best: 1.0}, alone[best][0], alone[best][0])
    if rows < FEWEST or len(models) == 1:
        return lone
    generator = torch.Generator().manual_seed(seed)
    shares, estimates = dict.fromkeys(models, 0.0), []
    for _ in range(BAGS):
        order = torch.randperm(rows, generator=generator)
        own, others = order[: rows // 2], order[rows // 2 :]
        few = torch.randperm(len(models), generator=generator)[: library_size(len(models))]
        some = [models[number] for number in sorted(few.tolist())]
        found = greedy(task, {name: outputs[name][own] for name in some}, target[own], allowed)
        for name, share in found.items():
            shares[name] += share / BAGS
        apart = together(task, {name: outputs[name][others] for name in found}, found)
        estimates.append(judge.on(apart, target[others])[0])
    whole = greedy(task, {name: outputs[name] for name in models}, target, allowed)
    bagged = {name: share for name, share in shares.items() if share > 0}
    tried = [{best: 1.0}, whole, *([bagged] if allowed(list(bagged)) else [])]
    scored = [judge(together(task, outputs, weights)) for weights in tried]
    last = len(tried) - 1  # the bagged one, unless a single model is better on all rows
    place = last if scored[last] >= scored[0] else max(range(last + 1), key=lambda i: scored[i])
    return Selection(tried[place], scored[place][0], fmean(estimates))


def library_size(models: int) -> int:
    """Return how many of the models one selection looks at."""
    return max(min(models, FEW_MODELS), math.ceil(models / 2))


def greedy(
    task: Task,
    outputs: Mapping[str, Tensor],
    target: Tensor,
    allowed: Callable[[Sequence[str]], bool],
) -> dict[str, float]:
    """Return the shares of models that are added one by one, from the best one on."""
    judge = Judge(task, target)
    qualities = {name: judge(output) for name, output in outputs.items()}
    taken = [max(qualities, key=lambda name: qualities[name])]
    answer, best = outputs[taken[0]], (qualities[taken[0]], 1)
    for count in range(1, MOST_STEPS):
        step: tuple[Quality, str, Tensor] | None = None
        weights = torch.tensor([count, 1.0]) / (count + 1)
        for name, output in outputs.items():
            if not allowed(list(dict.fromkeys([*taken, name]))):
                continue
            joined = task.ensemble_output(torch.stack([answer, output]), weights)
            quality = judge(joined)
            if step is None or quality > step[0]:
                step = quality, name, joined
        if step is None:
            break
        quality, name, answer = step
        taken.append(name)
        if quality > best[0]:
            best = quality, len(taken)
        elif len(taken) - best[1] >= PATIENCE:
            break
    kept = taken[: best[1]]
    return {name: kept.count(name) / len(kept) for name in dict.fromkeys(kept)}


def together(task: Task, outputs: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return what weighted models answer: (N, ...)."""
    stacked = torch.stack([outputs[name] for name in weights])
    return task.ensemble_output(stacked, torch.tensor(list(weights.values())))


class Judge:
    """Says how good answers to the same rows are.

    Args:
        task: whose score and loss.
        target: (N, ...).
    """

    def __init__(self, task: Task, target: Tensor) -> None:
        self.task = task
        self.target = target
        self.metric = task.metrics()[task.score]

    def __call__(self, output: Tensor) -> Quality:
        return self.on(output, self.target)

    def on(self, output: Tensor, target: Tensor) -> Quality:
        """Return the quality of outputs (N, ...) on targets (N, ...)."""
        return self.score(output, target), -self.task.loss(output, target).mean().item()

    def score(self, output: Tensor, target: Tensor) -> float:
        """Return the task's score alone."""
        self.metric.reset()
        self.metric.update(self.task.metric_input(output), target)
        return float(self.metric.compute())
