"""A configuration becomes all that predicts: networks, and sources in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datamodules.modalities.base import Modality
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.tasks.base import Task
from pipeline.building.borrowed import build_borrowing
from pipeline.building.ensemble import MEMBERS, build_own

Config = Mapping[str, Any]


def build_model(
    config: Config,
    tasks: Mapping[str, Task],
    modalities: Mapping[str, Modality],
    new: bool = False,
    borrowed: Config | None = None,
) -> MultiTaskNetwork:
    """Return the network, or the ensemble of them; tasks and modalities have their vocabularies.

    Args:
        config: a composed configuration.
        tasks: {name: task}.
        modalities: {name: modality}.
        new: whether pre-trained weights are loaded, which no checkpoint will replace.
        borrowed: what the checkpoint says of sources in the network, if there are any.

    Raises:
        UsageError: there is no encoder for a modality.
    """
    network = build_own(config, tasks, modalities, new)
    if borrowed is not None and MEMBERS not in config:
        network.borrowing = build_borrowing(borrowed, config["allow_targets"])
    return network
