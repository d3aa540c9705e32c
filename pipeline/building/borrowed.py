"""What a run said of sources in its network becomes these sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_modules.network import MultiTaskNetwork
from lightning_modules.transfer.borrowing import Borrowing
from lightning_modules.transfer.lender import Lender
from lightning_modules.transfer.library import rebuilt
from pipeline.building.ensemble import build_own
from pipeline.building.modalities import restored
from pipeline.building.tasks import build_tasks
from pipeline.instantiate import instantiate

Config = Mapping[str, Any]


def build_borrowing(known: Config, allow: Sequence[str]) -> Borrowing:
    """Return the sources inside a network, whose weights are in the network's checkpoint.

    Args:
        known: what the run said of them that took them in.
        allow: packages, besides our own, whose classes may be named.
    """
    lenders = {name: Lender(build_source(one, allow)) for name, one in known["lenders"].items()}
    mixers = {
        task: instantiate(node, allow, f"transfer, mixer of {task}")
        for task, node in known["mixers"].items()
    }
    return Borrowing(lenders, mixers)


def build_source(known: Config, allow: Sequence[str]) -> MultiTaskNetwork:
    """Return a source's network from what ``described`` returned, without its weights."""
    if "config" not in known:
        return rebuilt(known)
    config = {**known["config"], "allow_targets": list(allow)}
    tasks = build_tasks(config)
    return build_own(config, *restored(config, tasks, known["learnt"]))
