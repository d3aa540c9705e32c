"""Low-rank adapters of each task train, in one pass of the backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning_modules.encoders.base import Encoder
from lightning_modules.freezing import train_only
from lightning_modules.routing import Routing
from lightning_modules.tuning.base import DOWN, UP, PeftAdapter
from lightning_modules.tuning.peft_adapters import LowRankTuning, layer_kinds, target_layers
from lightning_modules.tuning.routed_adapters import (
    PLACE,
    attach_adapters,
    is_transposed,
    routed_layers,
)
from pollinate.errors import UsageError


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

    Examples:
        >>> import pollinate as po
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> po.tuning.TaskLoRA(rank=4, shared_rank=4).apply(encoder, ["mood", "stars"])
        >>> sum(one.numel() for one in encoder.network.parameters() if one.requires_grad)
        5376
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
        names, backbone = target_layers(encoder, self.targets), encoder.tuned_part()
        train_only(backbone, ())
        encoder.routing = Routing(layer_kinds(names))
        options = (sorted(tasks), self.rank, self.shared_rank, self.alpha, self.dropout)
        for name in names:
            attach_adapters(backbone.get_submodule(name), name, encoder.routing, *options)

    def adapter(self, encoder: Encoder, task: str) -> PeftAdapter:
        """Return the task's adapter and the shared one as one, of rank r + r_0.

        A = [A_t; A_0] and B = (r + r_0) [B_t / r, B_0 / r_0], at the scale alpha / (r + r_0).
        """
        rank = self.rank + self.shared_rank
        weights, transposed = {}, False
        for name, layer, adapters in routed_layers(encoder.tuned_part()):
            down, up = adapters.stacked(task)
            weights[f"{name}.lora_A.weight"] = down
            weights[f"{name}.lora_B.weight"] = up * (rank / self.alpha)
            transposed = is_transposed(layer)
        return PeftAdapter(rank, self.alpha, self.dropout, weights, transposed)

    def bare_names(self, encoder: Encoder) -> dict[str, str]:
        state = encoder.tuned_part().state_dict()
        return {name: name for name in state if f".{PLACE}." not in f".{name}"}

    def put(self, encoder: Encoder, adapters: Mapping[str, PeftAdapter]) -> None:
        """Let the tasks' adapters be others, of the same rank; what they share becomes 0."""
        for name, _, own in routed_layers(encoder.tuned_part()):
            for weight in own.parameters():
                weight.detach().zero_()
            for task, given in adapters.items():
                if f"{name}{DOWN}" in given.weights:
                    scale = (given.alpha / given.rank) / own.scale
                    place = own.own.get_submodule(task)
                    place.get_parameter("down.weight").detach().copy_(
                        given.weights[f"{name}{DOWN}"]
                    )
                    up = scale * given.weights[f"{name}{UP}"]
                    place.get_parameter("up.weight").detach().copy_(up)
