"""Colours that people who can't tell red from green tell apart (Okabe and Ito 2008)."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.studying.results import Arm

HELPED, HURT, UNCLEAR = "#0072b2", "#d55e00", "#8b949e"
OTHERS = ("#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#9a7d0a", "#6f4e9c")
ALONE, JOINT = UNCLEAR, HELPED
VERDICTS = {"helped": HELPED, "hurt": HURT, "unclear": UNCLEAR}


def colours_of(arms: Iterable[Arm]) -> dict[str, str]:
    """Return {arm: colour}: grey alone, blue joint, each other one its own while they last."""
    found: dict[str, str] = {}
    others = 0
    for arm in arms:
        if arm.kind in ("alone", "joint"):
            found[arm.name] = ALONE if arm.kind == "alone" else JOINT
        else:
            found[arm.name] = OTHERS[others % len(OTHERS)]
            others += 1
    return found
