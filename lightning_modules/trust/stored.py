"""Calibration as part of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_modules.checkpoints import read_checkpoint, write_checkpoint
from lightning_modules.tasks.base import Task
from lightning_modules.trust.row_scope import RowScope
from lightning_modules.trust.task_trust import TaskTrust

TRUST = "trust"  # key of what a checkpoint says of its model


@dataclass(frozen=True)
class Trust:
    """What is known of all tasks.

    tasks: {name: what is known of it}; coverage: asked for in training, None: none was.
    rows: {data set: how unlike the calibration rows its rows are, by several tasks together}.
    """

    tasks: Mapping[str, TaskTrust] = field(default_factory=dict)
    coverage: float | None = None
    rows: Mapping[str, RowScope] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """Return it as plain values and tensors."""
        states = {name: own.state() for name, own in self.tasks.items()}
        rows = {name: own.state() for name, own in self.rows.items()}
        return {"coverage": self.coverage, "tasks": states, "rows": rows}


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
    scored = [name for name, own in restored.items() if own.scope is not None]
    rows = {
        name: RowScope(tuple(own["tasks"]), own["scores"]).of(scored)
        for name, own in state.get("rows", {}).items()  # earlier checkpoints have none
    }
    return Trust(restored, state.get("coverage"), rows)
