"""Freezing weights, and the statistics that go with them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


def train_only(module: nn.Module, chosen: Iterable[nn.Parameter]) -> bool:
    """Freeze all parameters but the chosen ones, which are told apart by identity.

    Statistics of what is frozen are held, and all of a module that is frozen wholly is in
    evaluation mode; ``Encoder.train`` lets go what no longer is.

    Returns:
        whether that changed anything.
    """
    wanted = {id(parameter) for parameter in chosen}
    changed = False
    for parameter in module.parameters():
        trains = id(parameter) in wanted
        changed |= parameter.requires_grad != trains
        parameter.requires_grad_(trains)
    hold_statistics(module)
    rest(module)
    return changed


def hold_statistics(module: nn.Module) -> None:
    """Let norms whose scale is frozen go by their running statistics, and leave these alone."""
    for part in module.modules():
        if isinstance(part, _NormBase) and part.weight is not None and is_frozen(part.weight):
            part.eval()


def rest(module: nn.Module) -> None:
    """Put a module of which no weight trains into evaluation mode: it is a function of its input.

    One without weights is left as it is.
    """
    weights = list(module.parameters())
    if weights and all(map(is_frozen, weights)):
        for part in module.modules():  # not eval(): an encoder calls this when it is switched
            part.training = False


def is_frozen(parameter: nn.Parameter) -> bool:
    """Say whether a parameter doesn't train."""
    return not parameter.requires_grad
