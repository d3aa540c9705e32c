"""A run of every type of task, and models made from it without training."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.loading import table_digest
from lightning_modules.checkpoints import read_checkpoint
from lightning_modules.merging.adapters import backbone_name
from lightning_modules.predictor import NETWORK_PREFIX, Predictor
from lightning_modules.trust.stored import Trust
from pollinate.recipes import recipe_of

CHEAP = (
    *("dim=16", "encoder.text.pairs=128", "encoder.text.width=16", "encoder.image.width=8"),
    *("sampler.batch_size=8", "trainer.max_steps=2", "gradients.every_n_steps=0"),
    *("data.image.augment=flip", "tracking=none", "preset=none"),
)
QUIET = "tracking=none"


def best(run: Path) -> Path:
    return run / "checkpoints" / "best.ckpt"


def uncalibrated(checkpoint: Path) -> Predictor:
    """A model whose probabilities are its networks' own."""
    found = Predictor.load(checkpoint)
    found.trust = Trust()
    return found


def moved(checkpoint: Mapping[str, Any], seed: int, size: float = 0.05) -> dict[str, Any]:
    """The checkpoint with its weights moved a little."""
    draws = torch.Generator().manual_seed(seed)
    found = copy.deepcopy(dict(checkpoint))
    for value in found["state_dict"].values():
        if value.is_floating_point():
            value += size * torch.randn(value.shape, generator=draws)
    return found


def adapted(checkpoint: Mapping[str, Any], tune: Any, seed: int) -> dict[str, Any]:
    """The checkpoint with drawn adapters beside its encoder of texts, all else but that moved."""
    found = moved(checkpoint, seed)
    found["pollinate"]["config"]["encoder"]["text"]["tune"] = recipe_of(tune).node()
    network = Predictor.from_spec(found["pollinate"]).single_network
    part = backbone_name(network, "text")
    names = tune.bare_names(network.encoder("text"))
    bare = {f"{part}{own}": f"{NETWORK_PREFIX}{part}{one}" for one, own in names.items()}
    draws = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in network.state_dict().items():
        if name in bare:
            state[name] = checkpoint["state_dict"][bare[name]]
        elif name.startswith(part):
            noise = torch.randn(value.shape, generator=draws)
            state[name] = 1 + 0.1 * noise if "magnitude" in name else 0.3 * noise
        else:
            state[name] = found["state_dict"][f"{NETWORK_PREFIX}{name}"]
    found["state_dict"] = {f"{NETWORK_PREFIX}{name}": value for name, value in state.items()}
    return found


def only(checkpoint: dict[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    """The checkpoint without its other tasks."""
    spec = checkpoint["pollinate"]
    for known in (spec["config"]["data"]["tasks"], spec["learnt"]["tasks"]):
        for name in [name for name in known if name not in tasks]:
            del known[name]
    digests = spec["learnt"]["digests"]  # those of masks and depths, which it doesn't know, are in
    spec["learnt"]["digests"] = {name: table_digest(one) for name, one in digests.items()}
    checkpoint["state_dict"] = {
        name: value
        for name, value in checkpoint["state_dict"].items()
        if ".heads." not in name or name.split(".")[2] in tasks
    }
    return checkpoint


def weights(path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = read_checkpoint(path)["state_dict"]
    return found


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def models(home: Path, *names: str) -> str:
    return f"models=[{','.join(str(home / f'{name}.ckpt') for name in names)}]"
