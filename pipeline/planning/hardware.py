"""On what a run runs: how many devices, what each of them holds, in which numbers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.configuration.method_rules import AVERAGING, LOCAL_STRATEGIES, SHARDED
from pollinate.errors import UsageError
from pollinate.instantiate import find_target
from pollinate.suggest import listing

PLAIN = ("auto", "ddp", "ddp_find_unused_parameters_true", SHARDED, *LOCAL_STRATEGIES)
PRECISIONS: dict[str, tuple[torch.dtype | None, torch.dtype | None]] = {  # (of weights, autocast)
    "32": (None, None),
    "32-true": (None, None),
    "64": (torch.float64, None),
    "64-true": (torch.float64, None),
    "16": (None, torch.float16),
    "16-mixed": (None, torch.float16),
    "bf16": (None, torch.bfloat16),
    "bf16-mixed": (None, torch.bfloat16),
    "16-true": (torch.float16, None),
    "bf16-true": (torch.bfloat16, None),
}


@dataclass(frozen=True)
class HardwareSetup:
    """What the cost of a step depends on besides model and rows.

    devices: over all machines, >= 1.
    sharded: whether weights, gradients and optimizer state are divided among the devices.
    precision: of Lightning's names.
    accumulate: steps whose gradients add up, >= 1.
    fused: whether an optimizer goes through all parameters at once, as torch does on a GPU.
    copies: of the weights, kept besides them: their average (``ema_decay``), say.
    local: whether each device takes optimizer steps on its own.
    """

    devices: int = 1
    sharded: bool = False
    precision: str = "32"
    accumulate: int = 1
    fused: bool = False
    copies: int = 0
    local: bool = False

    @property
    def exchanged(self) -> bool:
        """Say whether a second copy of the gradients is kept to be sent."""
        return self.devices > 1 and not self.sharded and not self.local

    def cast(self, dtype: torch.dtype) -> torch.dtype:
        """Return what becomes of the type of a weight or an input."""
        wanted, _ = PRECISIONS[self.precision]
        return wanted if wanted is not None and dtype.is_floating_point else dtype

    def autocast(self) -> AbstractContextManager[Any]:
        """Inside, operations choose their types as in the run."""
        _, dtype = PRECISIONS[self.precision]
        return nullcontext() if dtype is None else torch.autocast("cpu", dtype)


def hardware_setup(config: Mapping[str, Any]) -> HardwareSetup:
    """Return what a configuration says."""
    trainer = config["trainer"]
    on_gpu = is_gpu(trainer.get("accelerator", "auto"))
    nodes = trainer.get("num_nodes", 1)
    if nodes < 1:
        raise UsageError(f"trainer.num_nodes must be >= 1, got {nodes}")
    devices = device_count(trainer.get("devices", "auto"), on_gpu) * nodes
    strategy, precision = trainer.get("strategy") or "auto", str(trainer.get("precision") or "32")
    if strategy not in PLAIN:
        raise UsageError(
            f"trainer.strategy must be one of {listing(PLAIN)} for its memory to be known, got "
            f"{strategy}"
        )
    if precision not in PRECISIONS:
        raise UsageError(f"trainer.precision must be one of {listing(PRECISIONS)}, got {precision}")
    return HardwareSetup(
        devices,
        strategy == SHARDED,
        precision,
        trainer.get("accumulate_grad_batches") or 1,
        on_gpu,
        weight_copies(config),
        strategy in LOCAL_STRATEGIES,
    )


def weight_copies(config: Mapping[str, Any]) -> int:
    count = int(config["ema_decay"] is not None)
    node = config["trainer"].get(AVERAGING)
    if node is not None:
        key = f"trainer.{AVERAGING}"
        count += find_target(node["_target_"], config["allow_targets"], key).copies
    return count


def is_gpu(accelerator: str) -> bool:
    """Say whether an accelerator is a GPU; ``auto`` is one where there is one."""
    return torch.cuda.is_available() if accelerator == "auto" else accelerator in ("gpu", "cuda")


def device_count(given: Any, on_gpu: bool) -> int:
    """Return the number of devices that ``trainer.devices`` stands for; they need not be here."""
    if isinstance(given, str) and "," in given:
        given = [part for part in given.split(",") if part.strip()]
    if isinstance(given, list):
        given = len(given)
    if given in ("auto", -1, "-1"):
        return max(1, torch.cuda.device_count()) if on_gpu else 1
    count = int(given) if str(given).isdigit() else 0
    if count < 1:
        raise UsageError(f"trainer.devices must be >= 1, a list, or auto, got {given}")
    return count
