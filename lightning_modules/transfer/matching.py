"""Which weights of one model have a place in another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Size

# what peft puts into the names of a layer that has an adapter, and before those in its files
WRAPPING = re.compile(r"\.base_layer(?=\.)|\.default(?=\.weight$)|^base_model\.model\.")
MAGNITUDE = re.compile(r"(\.lora_magnitude_vector)\.weight$")


@dataclass
class Match:
    """What ``match`` found.

    taken: {name here: name there}, of one shape.
    absent: names here that have nothing there.
    unused: names there that have no place here.
    wrong: {name here: (shape there, shape here)} where only the shapes differ.
    """

    taken: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    wrong: dict[str, tuple[Size, Size]] = field(default_factory=dict)


def match(here: Mapping[str, Size], there: Mapping[str, Size], renamed: Mapping[str, str]) -> Match:
    """Pair weights by their names.

    Args:
        here, there: {name: shape}.
        renamed: {part here: part there}; the longest part that begins a name counts, "" is all.
    """
    known, found = {plain(name): name for name in there}, Match()
    for name, shape in here.items():
        other = known.get(plain(counterpart(name, renamed)))
        if other is None:
            found.absent.append(name)
        elif there[other] != shape:
            found.wrong[name] = there[other], shape
        else:
            found.taken[name] = other
    used = {*found.taken.values(), *(known[plain(counterpart(n, renamed))] for n in found.wrong)}
    found.unused = [name for name in there if name not in used]
    return found


def counterpart(name: str, renamed: Mapping[str, str]) -> str:
    """Return the name there: ``trunk.a`` of ``encoder.a`` by {encoder: trunk}."""
    part = max((one for one in renamed if is_in(name, one)), key=len, default=None)
    if part is None:
        return name
    rest = name[len(part) :].lstrip(".")
    return ".".join(piece for piece in (renamed[part], rest) if piece)


def is_in(name: str, part: str) -> bool:
    """Say whether a weight's name begins with the name of a part; "" is the whole model."""
    return not part or f"{name}.".startswith(f"{part}.")


def plain(name: str) -> str:
    """Return a weight's name without what an adapter beside its layer adds to it."""
    return MAGNITUDE.sub(r"\1", WRAPPING.sub("", name))


def parts_of(names: Iterable[str]) -> list[str]:
    """Return the parts that names belong to: ``trunk``, ``encoders.text``, ``heads.digit``."""
    found = dict.fromkeys(
        ".".join(name.split(".")[: 2 if name.startswith(("encoders.", "heads.")) else 1])
        for name in names
    )
    return sorted(found)
