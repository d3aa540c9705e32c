"""Stay near another model's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.distributed import full_weight
from lightning_modules.hooks import AddedLosses, HookedModule, TrainingStep
from lightning_modules.source_models import SourceProvider
from lightning_modules.transfer.base import Transfer
from lightning_modules.transfer.weight_matching import MatchedWeights
from pollinate.errors import UsageError


class L2SP(Transfer):
    """alpha / 2 ||w_S - w_0||^2 + beta / 2 ||w_N||^2, added after balancing.

    w_S: the weights that have a counterpart w_0 at the source, from which they start; w_N: all
    others. Only weights that train count. Source: Li, Grandvalet and Davoine 2018, "Explicit
    inductive bias for transfer learning with convolutional networks", equation 2. Set the
    optimizer's weight decay to 0: it would pull to 0 what this holds near w_0.

    Args:
        source, parts, map: as for ``Init``.
        alpha, beta: >= 0.

    Raises:
        UsageError: a value out of range.

    Examples:
        >>> import torch, pollinate as po
        >>> transfer = po.transfer.L2SP("runs/first", alpha=0.1, beta=0.01)
        >>> model = po.MultiTaskModule(data, dim=16, transfer=transfer, sources=po.SourceOpener())
        >>> own, theirs = model.network.state_dict(), po.load("runs/first").network.state_dict()
        >>> all(torch.equal(own[name], theirs[name]) for name in theirs)  # and it is held near them
        True
    """

    def __init__(
        self,
        source: str,
        parts: Sequence[str] | None = None,
        map: Mapping[str, str] | None = None,  # noqa: A002  # what a user calls it
        alpha: float = 0.1,
        beta: float = 0.01,
    ) -> None:
        super().__init__()
        if min(alpha, beta) < 0:
            raise UsageError(f"transfer.alpha and beta must be >= 0, got {alpha} and {beta}")
        self.source, self.parts, self.map = source, parts, dict(map or {})
        self.alpha, self.beta = alpha, beta
        self._held: list[tuple[nn.Parameter, str]] = []  # (w_S, name of the buffer of w_0)
        self._others: list[nn.Parameter] = []

    def setup(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        """Take the weights over, and remember them: a run that is resumed needs its source, too.

        Raises:
            PollinateError: there is no such source.
            UsageError: weights, classes or tokenizers don't fit.
        """
        fit = MatchedWeights.of(sources.open(self.source), module, datamodule, self.parts, self.map)
        fit.copy_into(module.network)
        start = fit.weights()
        for name, parameter in module.network.named_parameters():
            if not parameter.requires_grad:
                continue
            if name in start:
                buffer = f"start{len(self._held)}"
                # a copy in the run's own type; no part of checkpoints
                self.register_buffer(buffer, parameter.detach().clone(), persistent=False)
                self._held.append((parameter, buffer))
            else:
                self._others.append(parameter)
        return fit.summary()

    def losses(self, step: TrainingStep) -> AddedLosses:
        held = [full_weight(weight) - getattr(self, start) for weight, start in self._held]
        others = [full_weight(weight) for weight in self._others]
        return AddedLosses(
            regularization=self.alpha / 2 * squared_norm(held)
            + self.beta / 2 * squared_norm(others)
        )


def squared_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum of squares of all numbers: ()."""
    return (
        torch.stack([one.square().sum() for one in tensors]).sum() if tensors else torch.zeros(())
    )
