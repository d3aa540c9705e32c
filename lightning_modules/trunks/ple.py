"""Progressive layered extraction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from lightning_modules.trunks.base import RowStates, require_at_least
from lightning_modules.trunks.mixture_of_experts import (
    ExpertMixture,
    Gate,
    expert_names,
    expert_outputs,
    make_experts,
    mixed,
)


class PLE(ExpertMixture):
    """CGC in levels, with a state for each task and one that is shared, all x at first.

    Task t:  h_t <- softmax(W_t h_t) [own experts of t at h_t; shared experts at h_s]
    shared:  h_s <- softmax(W_s h_s) [own experts of all tasks at their h; shared experts at h_s]

    and r_t is h_t of the last level, which has no shared gate. Source: Tang et al. 2020,
    "Progressive layered extraction (PLE)", section 4.2, equation 5. An expert is what the shared
    trunk is. Gates read states, normed.

    Args:
        tasks: names of all tasks.
        dim: width D of the features.
        levels: their number, >= 2; one level is ``trunk=cgc``.
        shared: experts of a level that all tasks mix, >= 1.
        own: experts of a level that each task has for itself, >= 1.
        depth: residual blocks of an expert, >= 0.
        dropout: as for the shared trunk.

    Raises:
        UsageError: levels < 2, shared < 1 or own < 1.

    Examples:
        >>> import torch, pollinate as po
        >>> trunk = po.trunks.PLE(["mood", "stars"], dim=8, levels=2)
        >>> rows = {"reviews": po.Features(torch.ones(4, 8))}
        >>> parts = trunk(rows, {"mood": ["reviews"], "stars": ["reviews"]})
        >>> parts["mood"][0].shape
        torch.Size([4, 8])
        >>> one_level = po.trunks.CGC(["mood", "stars"], dim=8)
        >>> len(list(trunk.parameters())) > 2 * len(list(one_level.parameters()))
        True
    """

    def __init__(
        self,
        tasks: Sequence[str],
        dim: int,
        levels: int = 2,
        shared: int = 2,
        own: int = 1,
        depth: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(tasks)
        require_at_least(2, levels=levels)
        require_at_least(1, shared=shared, own=own)
        numbers = range(levels)
        self.shared_experts = nn.ModuleList(
            make_experts("shared", shared, dim, depth, dropout) for _ in numbers
        )
        self.own_experts = nn.ModuleList(
            nn.ModuleDict(
                {task: make_experts("own", own, dim, depth, dropout) for task in self.tasks}
            )
            for _ in numbers
        )
        self.gates = nn.ModuleList(
            nn.ModuleDict({task: Gate(dim, own + shared) for task in self.tasks}) for _ in numbers
        )
        every = shared + own * len(self.tasks)
        self.shared_gates = nn.ModuleList(Gate(dim, every) for _ in numbers[:-1])

    def common(self, rows: Tensor) -> RowStates:
        """Run all levels, up to what only a single task reads."""
        states, shared = dict.fromkeys(self.tasks, rows), rows
        found: dict[str, Tensor] = {}  # the outputs of a level's experts
        for level, gate in enumerate(self.shared_gates):
            if level:
                states = {t: self._state(level - 1, t, states[t], found) for t in self.tasks}
            found = self._outputs(level, states, shared)
            shared = mixed(gate(shared), found)
        last = expert_outputs(self.shared_experts[-1], shared)
        return (
            found
            | {f"{task}.state": state for task, state in states.items()}
            | {f"last.{name}": output for name, output in last.items()}
        )

    def weighed(self, task: str, states: RowStates) -> tuple[Tensor, RowStates]:
        """Return the task's gate and experts on the last level."""
        state = self._state(len(self.shared_gates) - 1, task, states[f"{task}.state"], states)
        shared = {name: states[f"last.{name}"] for name in expert_names(self.shared_experts[-1])}
        return self._gate(-1, task, state), expert_outputs(self._own(-1, task), state) | shared

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield all but each task's last two gates and its experts on the last level."""
        shared = (self.shared_experts, self.shared_gates, self.own_experts[:-1], self.gates[:-2])
        for part in shared:
            yield from part.parameters()

    def _outputs(self, level: int, states: RowStates, shared: Tensor) -> dict[str, Tensor]:
        """Return the outputs of all experts of a level: {``<task>.own_0`` or ``shared_0``: ...}."""
        own = {
            f"{task}.{name}": output
            for task, part in self.own_experts[level].named_children()
            for name, output in expert_outputs(part, states[task]).items()
        }
        return own | expert_outputs(self.shared_experts[level], shared)

    def _state(self, level: int, task: str, state: Tensor, found: RowStates) -> Tensor:
        """Return a task's state after a level, of the outputs of that level's experts."""
        own = [f"{task}.{name}" for name in expert_names(self._own(level, task))]
        mine = {name: found[name] for name in [*own, *expert_names(self.shared_experts[level])]}
        return mixed(self._gate(level, task, state), mine)

    def _gate(self, level: int, task: str, state: Tensor) -> Tensor:
        weights: Tensor = self.gates[level].get_submodule(task)(state)
        return weights

    def _own(self, level: int, task: str) -> nn.Module:
        return self.own_experts[level].get_submodule(task)
