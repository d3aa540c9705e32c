"""Names adapters that get no gradient."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from datamodules.batch import MixedBatch
from lightning_modules.module import as_multitask
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.tuning.routed_adapters import PLACE

MARKS = (".lora_", f".{PLACE}.")  # what follows a layer's name in those of its adapters' weights


class WarnIdleAdapters(Callback):
    """Names layers whose adapters get no gradient in the first step with rows of their modality.

    Some networks read a layer's weight without calling the layer, past anything put beside it.

    Args:
        say: prints a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._unknown: set[str] = set()  # modalities with adapters that had no step yet
        self._here: set[str] = set()  # of those, the ones that have rows in this step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the adapters."""
        self._unknown = adapted(as_multitask(pl_module).network)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: MixedBatch, batch_idx: int
    ) -> None:
        """Remember which modalities have rows."""
        if self._unknown:
            parts = [part for part in batch.batches.values() if len(part.index)]
            self._here = self._unknown & {name for part in parts for name in part.modalities}

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at gradients, once per modality."""
        network = as_multitask(pl_module).network
        for modality in self._unknown & self._here:
            self._unknown.remove(modality)
            idle, busy = sort_layers(network.encoder(modality).tuned_part())
            if idle and trainer.is_global_zero:
                rest = f"leave them out: encoder.{modality}.tune.targets=[{', '.join(busy)}]"
                self.say(
                    f"note: adapters of encoder.{modality} have no effect on "
                    f"{', '.join(idle)}: the "
                    f"network doesn't call these layers; {rest if busy else 'name others'}"
                )


def adapted(network: MultiTaskNetwork) -> set[str]:
    """Return the modalities whose encoders have adapters."""
    return {name for name, tuning in network.tunings.items() if tuning.adapts}


def sort_layers(network: nn.Module) -> tuple[list[str], list[str]]:
    """Return the last parts of the names of layers whose adapters have no gradient, and a gradient.

    A block may be left out at random, so that a layer counts by any of its namesakes.
    """
    has: dict[str, bool] = {}
    for name, weight in network.named_parameters():
        mark = next((mark for mark in MARKS if mark in name), None)
        if mark is not None:
            layer = name.partition(mark)[0].rpartition(".")[2]
            has[layer] = has.get(layer, False) or weight.grad is not None
    return [k for k in sorted(has) if not has[k]], [k for k in sorted(has) if has[k]]
