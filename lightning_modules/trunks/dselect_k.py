"""A sparse mixture of experts whose choice has gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, einsum, nn

from lightning_modules.distributed import all_reduce_sum
from lightning_modules.trunks.base import ROWS, RowStates, require_at_least
from lightning_modules.trunks.mixture_of_experts import ExpertMixture, expert_outputs, make_experts
from pollinate.errors import UsageError


class DSelectK(ExpertMixture):
    """r_t = sum_e q_te(x) f_e(x), whose weights q come down to at most k that aren't 0.

    q(x) = sum_i softmax(A x)_i r(Z_i x),   i = 1 ... k
    r(z)_e = prod_j S(z_j) if bit j of e is 1 else 1 - S(z_j),   j = 1 ... m, 2^m >= E
    S(t) = 0 below -gamma/2, 1 above gamma/2, and -2 t^3 / gamma^3 + 3 t / (2 gamma) + 1/2 between

    penalty: ``entropy`` times sum_i H(r(Z_i x)), which drives each r to a single expert, and
    ``unused`` times sum_i 1 / sum_(e < E) r(Z_i x)_e where 2^m > E, which keeps it off experts that
    don't exist; means over a task's rows, summed over tasks. Source: Hazimeh et al. 2021,
    "DSelect-k: Differentiable selection in the mixture of experts", section 3, with a gate for each
    example. An expert is what the shared trunk is. x is normed for the gates: S is flat, without a
    gradient, for large z.

    Args:
        tasks: names of all tasks.
        dim: width D of the features.
        experts: number E of them, >= 2.
        k: largest number of experts per row, >= 1.
        gamma: width of the step S, > 0.
        entropy: factor of the entropy, >= 0.
        unused: factor of the term on experts that don't exist, >= 0.
        depth: residual blocks of an expert, >= 0.
        dropout: as for the shared trunk.

    Raises:
        UsageError: experts < 2, k < 1, gamma <= 0, or a factor < 0.

    Examples:
        >>> import torch, pollinate as po
        >>> trunk = po.trunks.DSelectK(["mood", "stars"], dim=8, experts=4, k=2)
        >>> rows = {"reviews": po.Features(torch.ones(4, 8))}
        >>> parts = trunk(rows, {"mood": ["reviews"], "stars": ["reviews"]})
        >>> parts["mood"][0].shape
        torch.Size([4, 8])
        >>> bool(trunk.penalty(["mood", "stars"]) > 0)  # the tasks haven't chosen two experts yet
        True
    """

    def __init__(
        self,
        tasks: Sequence[str],
        dim: int,
        experts: int = 4,
        k: int = 2,
        gamma: float = 1.0,
        entropy: float = 1e-3,
        unused: float = 1e-3,
        depth: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(tasks)
        require_at_least(2, experts=experts)
        require_at_least(1, k=k)
        require_at_least(0, entropy=entropy, unused=unused)
        if gamma <= 0:
            raise UsageError(f"gamma must be > 0, got {gamma}")
        self.entropy, self.unused = entropy, unused
        self.experts = make_experts("expert", experts, dim, depth, dropout)
        self.selectors = nn.ModuleDict(
            {task: Selector(dim, experts, k, gamma) for task in self.tasks}
        )
        self._terms: dict[str, tuple[Tensor, int]] = {}  # {task: sum of its rows' terms, rows}

    def common(self, rows: Tensor) -> RowStates:
        return {ROWS: rows} | expert_outputs(self.experts, rows)

    def weighed(self, task: str, states: RowStates) -> tuple[Tensor, RowStates]:
        """Return the task's selection, and all experts' outputs."""
        singles, chosen = self.selectors[task](states[ROWS])
        if torch.is_grad_enabled():
            self._terms[task] = self._term(singles), len(singles)
        weights = einsum("nk,nke->ne", chosen, singles[..., : len(self.experts)])
        return weights, {name: states[name] for name in self.experts}

    def penalty(self, tasks: Sequence[str]) -> Tensor | None:
        """Return both terms of the batch, as the mean over all processes' rows.

        Each process has its rows' part times the number of processes, as for a task's loss.
        """
        terms, self._terms = self._terms, {}
        given = [terms[task] for task in tasks]
        if not given:
            return None
        own = torch.tensor([[float(rows), 1.0] for _, rows in given])
        rows, processes = all_reduce_sum(own).unbind(dim=1)
        factors = processes / rows.clamp(min=1)
        totals = torch.stack([total for total, _ in given])
        return (totals * factors.to(totals)).sum()

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        return self.experts.parameters()

    def _term(self, singles: Tensor) -> Tensor:
        """Return the sum of the rows' penalties: (n, k, 2^m) -> ()."""
        term = self.entropy * entropy(singles).sum()
        count = len(self.experts)
        if count < singles.shape[-1]:
            real = singles[..., :count].sum(dim=-1)
            least = torch.finfo(real.dtype).eps
            term = term + self.unused * (1 / real.clamp(min=least)).sum()
        return term


class Selector(nn.Module):
    """The k single-expert selectors of a task, and their weights.

    (N, dim) -> r (N, k, 2^m), softmax(A x) (N, k).
    """

    bits: Tensor

    def __init__(self, dim: int, count: int, k: int, gamma: float) -> None:
        super().__init__()
        self.k, self.gamma, self.width = k, gamma, (count - 1).bit_length()
        self.norm = nn.LayerNorm(dim)
        self.codes = nn.Linear(dim, k * self.width, bias=False)
        self.choice = nn.Linear(dim, k, bias=False)
        # z near the middle of the step, where it has its largest slope
        nn.init.normal_(self.codes.weight, std=gamma / (20 * dim**0.5))
        numbers = torch.arange(2**self.width)[:, None] >> torch.arange(self.width)
        self.register_buffer("bits", (numbers & 1).bool(), persistent=False)  # (2^m, m)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return each selector's weights of the experts, and the selectors' weights."""
        x = self.norm(rows)
        steps = smooth_step(self.codes(x).view(len(x), self.k, 1, self.width), self.gamma)
        singles = torch.where(self.bits, steps, 1 - steps).prod(dim=-1)
        return singles, self.choice(x).softmax(dim=-1)


def smooth_step(t: Tensor, gamma: float) -> Tensor:
    """Return S(t): 0 below -gamma/2, 1 above gamma/2, a cubic between; any shape."""
    inner = t.clamp(-gamma / 2, gamma / 2)
    return -2 / gamma**3 * inner**3 + 3 / (2 * gamma) * inner + 0.5


def entropy(weights: Tensor) -> Tensor:
    """Return -sum_e w_e ln w_e: (..., E) -> (...); its gradient is finite at 0, too."""
    # ln 0 would make it NaN: w is exactly 0 wherever a step is flat
    return -(weights * (weights + torch.finfo(weights.dtype).tiny).log()).sum(dim=-1)
