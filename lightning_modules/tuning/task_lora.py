"""Low-rank adapters of each task train, in one pass of the backbone."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.encoders.base import Encoder
from lightning_modules.tuning.adapters import LowRankTuning, chosen
from lightning_modules.tuning.freezing import train_only
from lightning_modules.tuning.routed import attach
from lightning_modules.tuning.routing import Routing
from pipeline.errors import UsageError


class TaskLoRA(LowRankTuning):
    """h = W x + s_0 B_0 A_0 x + s B_t A_t x of the rows x of task t, where W is frozen.

    s = alpha / r, s_0 = alpha / r_0; both adapters of a layer leave out the same inputs. A row that
    several tasks read goes through the encoder once for each. An adapter of a task that a step
    lacks gets no gradient. Source: Hu et al. 2022, "LoRA", equation 3, once for each task.

    Args:
        rank: r, >= 1.
        alpha: scale.
        dropout: share of the adapters' inputs left out in training, in [0, 1).
        targets: last parts of layers' names; None: all linear layers of the blocks.
        shared_rank: r_0, >= 0; 0: nothing is shared.

    Raises:
        UsageError: a value is out of range.
    """

    def __init__(
        self,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        targets: Sequence[str] | None = None,
        shared_rank: int = 0,
    ) -> None:
        super().__init__(rank, alpha, dropout, targets)
        if shared_rank < 0:
            raise UsageError(f"tune.shared_rank must be >= 0, where 0 is none, got {shared_rank}")
        self.shared_rank = shared_rank

    def apply(self, encoder: Encoder, tasks: Sequence[str]) -> None:
        """Put the adapters beside the backbone's layers, in place, and freeze all else of it.

        Raises:
            UsageError: a target fits no layer, or one of another kind.
        """
        names, backbone = chosen(encoder, self.targets), encoder.tuned_part()
        train_only(backbone, ())
        encoder.routing = Routing()
        options = (sorted(tasks), self.rank, self.shared_rank, self.alpha, self.dropout)
        for name in names:
            attach(backbone.get_submodule(name), encoder.routing, *options)
