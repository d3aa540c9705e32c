"""A low-rank adapter as the package peft writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # peft's, before the names of a network's layers


@dataclass(frozen=True)
class Adapter:
    """h = W x + (alpha / rank) B A x on some layers.

    weights: {``LAYER.lora_A.weight``, say: tensor}.
    transposed: whether the layers hold W as (in, out).
    decomposed: whether W's columns have lengths of their own (DoRA).
    """

    rank: int
    alpha: float
    dropout: float
    weights: Mapping[str, Tensor]
    transposed: bool = False
    decomposed: bool = False

    @property
    def layers(self) -> list[str]:
        """Return the names of the layers."""
        return sorted({name.partition(".lora_")[0] for name in self.weights})

    def write(self, folder: Path, base: str | None) -> None:
        """Write what ``peft.PeftModel.from_pretrained(network, folder)`` reads.

        Args:
            folder: exists.
            base: a public name of the network, or None.
        """
        from safetensors.torch import save_file  # only an export needs it

        config = {
            "peft_type": "LORA",
            "task_type": None,
            "base_model_name_or_path": base,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": self.layers,
            "fan_in_fan_out": self.transposed,
            "use_dora": self.decomposed,
            "bias": "none",
            "inference_mode": True,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        named = {f"{PREFIX}{name}": v.contiguous() for name, v in self.weights.items()}
        save_file(named, folder / WEIGHTS, {"format": "pt"})
