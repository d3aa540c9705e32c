"""A configuration becomes all that predicts: networks, and sources in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.modalities.base import Modality
from lightning_modules.ensemble import Ensemble
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.tasks.base import Task
from lightning_modules.transfer.borrower import LEARNT
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
        borrowed: what the checkpoint says of sources in the network, if there are any; an
            ensemble's configuration says it of each member.

    Raises:
        UsageError: there is no encoder for a modality.
    """
    network = build_own(config, tasks, modalities, new)
    if isinstance(network, Ensemble):
        for place, own in enumerate(config[MEMBERS]):
            borrow(network.member(place), own.get(LEARNT), config["allow_targets"])
    else:
        borrow(network, borrowed, config["allow_targets"])
    return network


def borrow(network: MultiTaskNetwork, known: Config | None, allow: Sequence[str]) -> None:
    """Give a network the sources that it had in training, if it had any."""
    if known is not None:
        network.borrowing = build_borrowing(known, allow)
