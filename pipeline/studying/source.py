"""The model that a transfer begins from."""

from __future__ import annotations

from pathlib import Path

from pipeline.studying.place import Place
from pipeline.studying.plan import Plan, trial_place
from pipeline.studying.results import Arm


def source_of(folder: Path, arm: Arm, seed: int) -> Place | None:
    """Return the run that an arm's run of a seed begins from: the source alone, with all labels."""
    return None if arm.source is None else trial_place(folder, f"alone:{arm.source}", seed)


def from_source(plan: Plan, arm: Arm, source: Place | None) -> list[str]:
    """Return what names that model; the target reads its texts as the source does."""
    if source is None or arm.source is None:
        return []
    texts = all("text" in plan.facts.tasks[name].modalities for name in (*arm.tasks, arm.source))
    alike = [f"data.text.tokenizer={source.path}"] if texts and plan.facts.learns_tokens else []
    return [f"transfer.source={source.path}", *alike]
