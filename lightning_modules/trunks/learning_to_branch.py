"""Learning to branch: which layers tasks share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, einsum, nn

from lightning_modules.balancers.step_random import StepGenerator
from lightning_modules.trunks.base import PerTaskTrunk, RowStates, require_at_least
from lightning_modules.trunks.gauges import gauge_names
from lightning_modules.trunks.shared import ResidualBlock
from pollinate.errors import UsageError


class LearningToBranch(PerTaskTrunk):
    """Layers of B blocks; each block, and each task, learns which block below it reads.

    x_j = sum_i d_ji y_i,   d_j = softmax((theta_j + g) / tau),   g_i = -ln(-ln(u_i)), u_i uniform

    In evaluation, d_j is 1 for the largest theta_j: a tree. Source: Guo, Lee and Ulbricht 2020,
    "Learning to branch for multi-task learning", section 3. Samples stay soft in training, and
    tau falls from ``start`` to ``end`` in equal ratios over ``steps`` optimizer steps. The draws
    are a function of seed and step: alike on all processes, and after a resume.

    Args:
        tasks: names of all tasks.
        dim: width D of the features.
        depth: layers, >= 1.
        branches: blocks B of a layer, >= 1.
        dropout: as for the shared trunk.
        start: temperature tau of the first step, > 0.
        end: temperature after ``steps`` optimizer steps, in (0, start].
        steps: optimizer steps, >= 1.
        seed: of the draws.

    Raises:
        UsageError: depth, branches or steps < 1, or the temperatures are out of range.

    Examples:
        >>> import torch, pollinate as po
        >>> trunk = po.trunks.LearningToBranch(["mood", "stars"], dim=8, branches=2, steps=100)
        >>> trunk.begin_step(50)
        >>> round(trunk.temperature, 3)  # between 5.0 and 0.1
        0.707
        >>> trunk.gauges(["mood"])  # no branch is preferred yet
        {'gate/mood/branch_0': 0.5, 'gate/mood/branch_1': 0.5}
    """

    def __init__(
        self,
        tasks: Sequence[str],
        dim: int,
        depth: int = 2,
        branches: int = 3,
        dropout: float = 0.1,
        start: float = 5.0,
        end: float = 0.1,
        steps: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__(tasks)
        require_at_least(1, depth=depth, branches=branches, steps=steps)
        if not 0 < end <= start:
            raise UsageError(f"end must be in (0, start = {start}], got {end}")
        self.start, self.end, self.steps = start, end, steps
        self.branches = tuple(f"branch_{number}" for number in range(branches))
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: ResidualBlock(dim, dropout) for name in self.branches})
            for _ in range(depth)
        )
        # the logits of what each block above the first layer reads, and those of the tasks
        self.parents = nn.ModuleList(
            nn.ParameterDict({name: torch.zeros(branches) for name in self.branches})
            for _ in range(depth - 1)
        )
        self.leaves = nn.ParameterDict({task: torch.zeros(branches) for task in self.tasks})
        self.norms = nn.ModuleDict({task: nn.LayerNorm(dim) for task in self.tasks})
        self.draws = StepGenerator(seed)

    @property
    def temperature(self) -> float:
        """Return tau of the step: start (end / start)^(step / steps), and no less than end."""
        share = min(int(self.draws.step) / self.steps, 1.0)
        ratio: float = (self.end / self.start) ** share
        return self.start * ratio

    def begin_step(self, step: int) -> None:
        """Go on to the step's temperature and draws."""
        self.draws.step.fill_(step)

    def common(self, rows: Tensor) -> RowStates:
        first, *others = self.layers
        states = {name: block(rows) for name, block in first.named_children()}
        for number, (blocks, parents) in enumerate(zip(others, self.parents, strict=True)):
            noise = self._noise(number)
            inputs = {
                name: chosen(self._decision(logits, noise[place]), states)
                for place, (name, logits) in enumerate(parents.named_parameters())
            }
            states = {name: block(inputs[name]) for name, block in blocks.named_children()}
        return states

    def own(self, task: str, states: RowStates) -> Tensor:
        """Choose among the last layer's branches."""
        noise = self._noise(len(self.parents))[self.tasks.index(task)]
        rows: Tensor = self.norms[task](chosen(self._decision(self.leaves[task], noise), states))
        return rows

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield all but each task's choice and norm."""
        yield from self.layers.parameters()
        yield from self.parents.parameters()

    def gauges(self, tasks: Sequence[str]) -> dict[str, float]:
        """Return how probable each branch is for each task: softmax(theta)."""
        found: dict[str, float] = {}
        for task in tasks:
            found |= gauge_names(
                "gate", task, self.branches, self.leaves[task].detach().softmax(dim=0)
            )
        return found

    def _noise(self, layer: int) -> Tensor:
        """Return the step's Gumbel noise for each decision after a layer: (decisions, B)."""
        count = len(self.branches)
        size = (len(self.layers), max(len(self.tasks), count), count)
        uniform = torch.rand(size, generator=self.draws.generator(), dtype=torch.float64)
        return -(-uniform.clamp(min=1e-300).log()).log()[layer]

    def _decision(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Return d: (B,), a sample in training, the largest in evaluation."""
        if self.training:
            return ((logits + noise.to(logits)) / self.temperature).softmax(dim=0)
        return nn.functional.one_hot(logits.argmax(), len(logits)).to(logits)


def chosen(decision: Tensor, states: RowStates) -> Tensor:
    """Return sum_i d_i y_i: (B,), {branch: (N, D)} -> (N, D)."""
    return einsum("b,bnd->nd", decision, torch.stack(list(states.values())))
