"""Sluice networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, einsum, nn

from lightning_modules.distributed import full_weight
from lightning_modules.trunks.base import PerTaskTrunk, RowStates, require_at_least
from lightning_modules.trunks.cross_stitch import start
from lightning_modules.trunks.gauges import gauge_names
from lightning_modules.trunks.shared import ResidualBlock
from pollinate.errors import UsageError

SPACES = 2  # G: subspaces of a layer


class Sluice(PerTaskTrunk):
    """Cross-stitches between halves of layers, and a mixture of all layers at the end.

    After each block:  h_tg <- sum_(u, f) alpha_tg,uf h_uf     g, f = 1, 2: halves of the D numbers
    at the end:        r_t = norm(sum_k beta_tk h_t^(k))       k = 1 ... depth, h after its alpha

    penalty: ``orthogonality`` times the sum over tasks and blocks of ||W_1 W_2^T||_F^2, where W_1
    and W_2 are the halves of the rows of the block's last matrix: the halves are to hold different
    things. Source: Ruder et al. 2019, "Latent multi-task architecture learning", where layers are
    recurrent.

    Args:
        tasks: names of all T tasks.
        dim: width D of the features, even.
        depth: blocks of each tower, >= 1.
        dropout: as for the shared trunk.
        own: alpha between halves of the same number in one task, in [0, 1], at the start; those of
            the other tasks share the rest, and halves of different numbers start at 0.
        orthogonality: factor of the penalty, >= 0.

    Raises:
        UsageError: depth < 1, dim is odd, own isn't in [0, 1] or orthogonality < 0.

    Examples:
        >>> import torch, pollinate as po
        >>> trunk = po.trunks.Sluice(["mood", "stars"], dim=8, depth=2)
        >>> rows = {"reviews": po.Features(torch.ones(4, 8))}
        >>> parts = trunk(rows, {"mood": ["reviews"], "stars": ["reviews"]})
        >>> parts["mood"][0].shape
        torch.Size([4, 8])
        >>> bool(trunk.penalty(["mood", "stars"]) > 0)  # halves of a layer aren't orthogonal yet
        True
    """

    def __init__(
        self,
        tasks: Sequence[str],
        dim: int,
        depth: int = 2,
        dropout: float = 0.1,
        own: float = 0.9,
        orthogonality: float = 1e-3,
    ) -> None:
        super().__init__(tasks)
        require_at_least(1, depth=depth)
        require_at_least(0, orthogonality=orthogonality)
        if dim % SPACES:
            raise UsageError(f"dim must be a multiple of {SPACES}, got {dim}")
        self.orthogonality = orthogonality
        self.layers = nn.ModuleList(
            nn.ModuleDict({task: ResidualBlock(dim, dropout) for task in self.tasks})
            for _ in range(depth)
        )
        # flat: weight decay, which is for matrices, would draw them to 0
        self.alphas = nn.ModuleList(
            nn.ParameterDict({t: nn.Parameter(first(self.tasks, t, own)) for t in self.tasks})
            for _ in range(depth)
        )
        self.betas = nn.ParameterDict(
            {task: nn.Parameter(torch.full((depth,), 1 / depth)) for task in self.tasks}
        )
        self.norms = nn.ModuleDict({task: nn.LayerNorm(dim) for task in self.tasks})

    def common(self, rows: Tensor) -> RowStates:
        """Run all towers, up to the last block; ``<task>.<k>`` is h of block k after its alpha."""
        states = dict.fromkeys(self.tasks, rows)
        found: dict[str, Tensor] = {}
        for number, blocks in enumerate(self.layers):
            if number:
                states = {t: mixed(self._alpha(number - 1, t), states) for t in self.tasks}
                found |= {f"{task}.{number - 1}": state for task, state in states.items()}
            states = {task: block(states[task]) for task, block in blocks.named_children()}
        return found | states

    def own(self, task: str, states: RowStates) -> Tensor:
        """Mix the last blocks' halves, then the task's layers."""
        last = mixed(self._alpha(-1, task), {name: states[name] for name in self.tasks})
        before = [states[f"{task}.{number}"] for number in range(len(self.layers) - 1)]
        layers = torch.stack([*before, last])
        rows: Tensor = self.norms[task](einsum("k,knd->nd", self.betas[task], layers))
        return rows

    def penalty(self, tasks: Sequence[str]) -> Tensor | None:
        """Return the products of the halves: all towers are shared, whatever tasks there are."""
        if not tasks:
            return None
        blocks = [block for layer in self.layers for block in layer.children()]
        return self.orthogonality * torch.stack([overlap(block) for block in blocks]).sum()

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield all but each task's last alpha, beta and norm."""
        yield from self.layers.parameters()
        yield from self.alphas[:-1].parameters()

    def gauges(self, tasks: Sequence[str]) -> dict[str, float]:
        """Return the mean over halves of the last alphas, and beta as ``layer_<k>``."""
        found: dict[str, float] = {}
        for task in tasks:
            alpha = self._alpha(-1, task).detach().view(SPACES, -1, SPACES)
            found |= gauge_names("gate", task, self.tasks, alpha.sum(dim=2).mean(dim=0))
            layers = [f"layer_{number}" for number in range(len(self.layers))]
            found |= gauge_names("gate", task, layers, self.betas[task].detach())
        return found

    def _alpha(self, number: int, task: str) -> Tensor:
        return self.alphas[number].get_parameter(task)


def first(tasks: Sequence[str], task: str, own: float) -> Tensor:
    """Return a task's first alpha, flat: (G T G,), as [g, u, f]."""
    between = start(tasks, task, own)
    return einsum("u,gf->guf", between, torch.eye(SPACES)).flatten()


def mixed(alpha: Tensor, states: RowStates) -> Tensor:
    """Return [sum_(u, f) alpha_guf h_uf for each g]: (G T G,), {task: (N, D)} -> (N, D)."""
    rows = torch.stack(list(states.values()))  # (T, N, D)
    halves = rows.view(*rows.shape[:2], SPACES, rows.shape[2] // SPACES)
    weights = alpha.view(SPACES, len(states), SPACES)
    return einsum("guf,unfd->ngd", weights, halves).flatten(1)


def overlap(block: nn.Module) -> Tensor:
    """Return ||W_1 W_2^T||_F^2 of the block's last matrix (D, 2 D), whose rows are halved."""
    *_, last = (part for part in block.modules() if isinstance(part, nn.Linear))
    one, other = full_weight(last.weight).chunk(SPACES)
    return (one @ other.T).square().sum()
