"""Calibration as part of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_modules.checkpoints import read_checkpoint, write_checkpoint
from lightning_modules.tasks.base import Task
from lightning_modules.trust.task_trust import TaskTrust

TRUST = "trust"  # key of what a checkpoint says of its model


@dataclass(frozen=True)
class Trust:
    """tasks: {name: what is known of it}; coverage: asked for in training, None: none was."""

    tasks: Mapping[str, TaskTrust] = field(default_factory=dict)
    coverage: float | None = None

    def state(self) -> dict[str, Any]:
        """Return it as plain values and tensors."""
        states = {name: own.state() for name, own in self.tasks.items()}
        return {"coverage": self.coverage, "tasks": states}


def store_trust(trust: Trust, checkpoint: Path) -> None:
    """Write a calibration into a checkpoint, whose file is replaced whole; an earlier one goes."""
    content = read_checkpoint(checkpoint)
    write_checkpoint(
        {**content, "pollinate": {**content["pollinate"], TRUST: trust.state()}}, checkpoint
    )


def restore_trust(spec: Mapping[str, Any], tasks: Mapping[str, Task]) -> Trust:
    """Return the calibration that a checkpoint has, an empty one for one without.

    Args:
        spec: what it says of its model.
        tasks: {name: task}, with vocabularies.
    """
    state = spec.get(TRUST) or {}
    known = state.get("tasks", {})
    restored = {
        name: TaskTrust.restored(task, known[name]) for name, task in tasks.items() if name in known
    }
    return Trust(restored, state.get("coverage"))
