"""Which classes a config may name in ``_target_``: the rule, applied to the name alone.

A config from somebody else's run must not be able to call ``os.system`` or ``torch.load``.
``instantiate`` applies the rule again to the class it finds.
"""

from __future__ import annotations

from collections.abc import Sequence

OWN = ("lightning_modules", "datamodules", "pipeline.tracking", "torchvision.transforms.v2")
OPTIMIZERS = "torch.optim"
RULE = (
    "allowed are classes below " + ", ".join((*OWN, OPTIMIZERS)) + ", and below your own packages "
    "when the command line names them: allow_targets=[my_pkg]"
)


def is_below(name: str, packages: Sequence[str]) -> bool:
    """Return whether a dotted name is one of ``packages`` or below it."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def may_reach(module: str, allow: Sequence[str]) -> bool:
    """Return whether a class defined in ``module`` may be named, wherever it is re-exported."""
    return is_below(module, [*OWN, OPTIMIZERS, *allow])


def refusal(target: object, allow: Sequence[str]) -> str | None:
    """Return why ``_target_`` is refused by its name, or None when it may be looked up."""
    if not isinstance(target, str):
        return f"must be the dotted name of a class, got {target!r}"
    parts = target.split(".")
    if not all(part.isidentifier() and not part.startswith("_") for part in parts):
        return f"{target!r} is not the dotted name of a public class"
    is_optimizer = len(parts) == 3 and is_below(target, [OPTIMIZERS])
    is_own = len(parts) > 1 and is_below(target.rpartition(".")[0], [*OWN, *allow])
    return None if is_optimizer or is_own else f"{target!r} is refused: {RULE}"
