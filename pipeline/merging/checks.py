"""Can these models be merged by this method? Found out before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lightning_modules.merging.base import Merging
from lightning_modules.merging.models import Models
from lightning_modules.merging.starts import strangers
from pipeline.errors import UsageError
from pipeline.merging.parents import Parent

Shapes = Mapping[str, tuple[int, ...]]
NO_START = (
    "subtracts from each model the one that all were trained on from, to see what it learnt; "
    "without that start there is nothing to subtract"
)


def check_method(method: Merging, name: str, models: Sequence[Any], base: Any) -> None:
    """Check that a method is given what it takes.

    Raises:
        UsageError: too few models or too many; a start is missing, or given for nothing.
    """
    count = len(models)
    if count < method.fewest or (method.most is not None and count > method.most):
        wanted = f"{method.fewest}" if method.most == method.fewest else f">= {method.fewest}"
        raise UsageError(f"models must be {wanted} for {name}, got {count}: models=[A,B]")
    if method.needs_base and base is None:
        raise UsageError(
            f"{name} {NO_START}: name it with base=CHECKPOINT. Models that were initialised "
            "apart have none: give their answers a mean, method=ensemble"
        )
    if base is not None and not method.needs_base:
        raise UsageError(f"{name} looks at no common start; leave out base={base}")


def check_starts(models: Models, base: Parent | None) -> list[str]:
    """Check that models come from the start; return what is odd about them without one.

    Raises:
        UsageError: one doesn't, or the start lacks what several models have.
    """
    if base is not None:
        check_base(models, base)
    found = list(strangers(models))
    if base is not None and found:
        texts = ", ".join(f"{one.model} (cosine {one.cosine:.2f})" for one in found)
        raise UsageError(
            f"base {base.path} is no start of {texts}: their weights have as little to do with "
            "each other as those of two random networks, so that the difference is nothing that "
            "was learnt. Give the checkpoint that they were trained on from, or method=ensemble"
        )
    return [
        f"note: {one.model} and {one.other} don't come from one start (cosine of their weights "
        f"{one.cosine:.2f}): such models merge badly, usually to chance; train them on from one "
        "checkpoint, or let both answer: method=ensemble"
        for one in found
    ]


def check_base(models: Models, base: Parent) -> None:
    """Check that the start has what several models share.

    Raises:
        UsageError: it hasn't.
    """
    missing = [
        unit.name
        for unit in models.units
        if unit.is_weight and not unit.is_own and not unit.in_base and len(unit.owners) > 1
    ]
    if missing:
        raise UsageError(
            f"base {base.path} has no {missing[0]}{more(missing)}, which several models have: what "
            "they learnt since can't be told; give the checkpoint that they were trained on from"
        )


def check_whole(found: Shapes, wanted: Shapes, trunk: str) -> None:
    """Check that tensors are just those of the network that the result is.

    Raises:
        UsageError: they aren't.
    """
    wrong = [name for name in wanted if found.get(name) != wanted[name]]
    wrong += [name for name in found if name not in wanted]
    if wrong:
        name = wrong[0]
        raise UsageError(
            f"one network for all tasks would have {name} of shape {shape(wanted, name)}, the "
            f"models have {shape(found, name)}{more(wrong)}: trunk {trunk} has parts for pairs or "
            "sets of tasks. Merge models of the same tasks, or their answers: method=ensemble"
        )


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Check that a merge has numbers that a network can work with.

    Raises:
        UsageError: it hasn't.
    """
    wrong = [
        name
        for name, value in state.items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if wrong:
        raise UsageError(
            f"the merge's {wrong[0]}{more(wrong)} must be finite, got nan or inf: a coefficient "
            "that is no finite number, one that is far too large, or a model that has diverged"
        )


def shape(shapes: Shapes, name: str) -> str:
    """Return a shape for a message."""
    return str(shapes[name]) if name in shapes else "none"


def more(names: Sequence[str]) -> str:
    """Return how many others there are."""
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
