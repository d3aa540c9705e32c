"""A plan as tables, as plain values, and as one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.planning.cost import MemoryCost, StepCost
from pipeline.planning.hardware import HardwareSetup
from pipeline.terminal import new_table, say
from pipeline.text_format import format_bytes, format_scaled

MEMORY_LABELS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "average": "copies of the weights",
    "exchange": "gradients or blocks under exchange",
    "balancer": "balancer",
    "metrics": "metrics",
    "activations": "activations",
}


def plan_values(
    cost: StepCost, setting: HardwareSetup, batch_size: int, largest: int | None
) -> dict[str, Any]:
    """Return a plan for a script.

    FLOPs are those of one row; memory is in bytes on one device.
    """
    memory = {**asdict(cost.memory), "total": cost.memory.total}
    return {
        "parts": [asdict(part) for part in cost.parts],
        "flops_per_row": dict(cost.row_flops),
        "rows_per_device": dict(cost.rows),
        "devices": setting.devices,
        "sharded": setting.sharded,
        "precision": setting.precision,
        "batch_size": batch_size,
        "memory_per_device": memory,
        "largest_batch_size": largest,
    }


def print_plan(console: Console, cost: StepCost, setting: HardwareSetup, batch_size: int) -> None:
    console.print(part_table(cost))
    console.print()
    console.print(memory_table(cost.memory))
    console.print()
    kind = "sharded over" if setting.sharded else "on"
    devices = "1 device" if setting.devices == 1 else f"{setting.devices} devices"
    rows = ", ".join(f"{name} {rows}" for name, rows in cost.rows.items())
    say(console, f"sampler.batch_size={batch_size} {kind} {devices}: a device has {rows}")


def part_table(cost: StepCost) -> Table:
    headings = ("part", "weights", "trainable", "forward", "backward FLOPs a row")
    table = new_table(*headings, numbers=4)
    for part in cost.parts:
        numbers = (f"{part.parameters:,}", f"{part.trainable:,}")
        table.add_row(part.name, *numbers, *map(format_scaled, (part.forward, part.backward)))
    total = (sum(p.parameters for p in cost.parts), sum(p.trainable for p in cost.parts))
    table.add_row("all", *(f"{number:,}" for number in total), "", "")
    for name, count in cost.row_flops.items():
        table.add_row(f"one row of {name}", "", "", "", format_scaled(count))
    return table


def memory_table(memory: MemoryCost) -> Table:
    """Return one line for each use of a device's memory."""
    table = new_table("memory of a device", "", numbers=1)
    for name, count in asdict(memory).items():
        if count:
            table.add_row(MEMORY_LABELS[name], format_bytes(count))
    table.add_row("sum", format_bytes(memory.total), style="bold")
    return table


def one_line_cost(cost: StepCost, modalities: Mapping[str, str]) -> str:
    """Return what the start of a run says.

    Args:
        cost: of a step.
        modalities: {data set: what its rows are made of}: ``image+text``.
    """
    found: dict[str, list[tuple[float, int]]] = {}
    for name, count in cost.row_flops.items():
        found.setdefault(modalities[name], []).append((count, cost.rows[name]))
    means = {
        kind: sum(count * rows for count, rows in pairs) / sum(rows for _, rows in pairs)
        for kind, pairs in found.items()
    }
    parts = [f"{format_scaled(mean)}FLOPs per row of {kind}" for kind, mean in means.items()]
    memory = format_bytes(cost.memory.total)
    return (
        f"{', '.join(parts)}, forward and backward; {memory} per process, without program and data"
    )
