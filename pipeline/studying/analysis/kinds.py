"""Which arms are taken to be equally noisy, and which differ by their labels only."""

from __future__ import annotations

from collections.abc import Hashable

from pipeline.studying.results import Arm

LABELS = "labels="  # the override that sets their share


def kind(arm: Arm) -> str:
    """Return what arms of the same noise share: a variant's own name, otherwise their kind."""
    return base_name(arm) if arm.kind == "variant" else arm.kind


def series(arm: Arm) -> Hashable:
    """Return what arms share that differ by their labels only."""
    others = tuple(one for one in arm.overrides if not one.startswith(LABELS))
    return arm.kind, arm.tasks, others, arm.source, arm.weights


def base_name(arm: Arm) -> str:
    """Return an arm's name without its share of labels: joint of joint@0.1."""
    return arm.name.partition("@")[0] if arm.labels < 1 else arm.name
