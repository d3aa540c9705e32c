"""Names beside marks, none over another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Place = tuple[float, float]
Box = tuple[float, float, float, float]  # left, bottom, right, top

CHARACTER, LINE, GAP = 6.3, 14.0, 8.0  # pixels of a letter, a line, and from a mark to its name
SIDES = (
    ("center", 1.0), ("right", 1.0), ("left", 1.0), ("left", 0.0),
    ("right", 0.0), ("center", -1.0), ("left", -1.0), ("right", -1.0),
)  # fmt: skip
Offset = tuple[str, float, float]  # horizontal alignment, pixels to the right, pixels up


def placed(marks: Mapping[str, Place], names: Sequence[str], size: Place) -> dict[str, Offset]:
    """Return where each name goes: the first side on which it covers no mark and no name.

    Args:
        marks: {name: place in pixels} of all marks.
        names: of the marks that are named, the most important first.
        size: of the picture in pixels, which names don't leave.
    """
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in marks.values()]
    found: dict[str, Offset] = {}
    for name in names:
        for side, up in SIDES:
            box = box_of(marks[name], len(name) * CHARACTER, side, up)
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]
            if inside and not any(overlap(box, other) for other in taken):
                taken.append(box)
                right = {"left": GAP, "right": -GAP, "center": 0.0}[side]
                found[name] = side, right if not up else right / 2, up * 0.9 * LINE
                break
    return found


def box_of(mark: Place, width: float, side: str, up: float) -> Box:
    """Return what a name would cover."""
    x, y = mark[0], mark[1] + up * 0.9 * LINE
    shift = GAP if not up else GAP / 2
    left = {"left": x + shift, "right": x - shift - width, "center": x - width / 2}[side]
    return left, y - LINE / 2, left + width, y + LINE / 2


def overlap(one: Box, other: Box) -> bool:
    """Say whether two boxes cover a common place."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
