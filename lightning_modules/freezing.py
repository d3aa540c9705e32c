"""Freezing a network's blocks, weights and statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

Groups = list[list[nn.Parameter]]


def parameter_groups_of(network: nn.Module) -> Groups:
    """Return [what stands before the blocks, block 1, ..., block n with what stands after it].

    The blocks are the children of the one list of modules that holds most weights.
    """
    return group_by_place(network, [list(block.parameters()) for block in blocks_of(network)])


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Return the blocks that have weights."""
    lists = [m for m in network.modules() if isinstance(m, nn.ModuleList | nn.Sequential)]
    best = max(lists, key=size_as_list, default=nn.ModuleList())
    return [child for child in best.children() if any(True for _ in child.parameters())]


def size_as_list(part: nn.Module) -> int:
    """Return the weights of a list of modules; 0 if fewer than two of them have any."""
    sizes = [sum(p.numel() for p in child.parameters()) for child in part.children()]
    return sum(sizes) if sum(size > 0 for size in sizes) > 1 else 0


def group_by_place(network: nn.Module, blocks: Groups) -> Groups:
    """Add what is in no block to the group before the first, or to the last block.

    That depends on whether it was registered before the first block or after it.
    """
    place = {id(p): number for number, block in enumerate(blocks, start=1) for p in block}
    groups: Groups = [[] for _ in range(len(blocks) + 1)]
    reached = False
    for parameter in network.parameters():
        reached = reached or id(parameter) in place
        groups[place.get(id(parameter), len(blocks) if reached else 0)].append(parameter)
    return groups


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
    freeze_mode(module)
    return changed


def hold_statistics(module: nn.Module) -> None:
    """Let norms whose scale is frozen go by their running statistics, and leave these alone."""
    for part in module.modules():
        if isinstance(part, _NormBase) and part.weight is not None and is_frozen(part.weight):
            part.eval()


def freeze_mode(module: nn.Module) -> None:
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


@contextmanager
def running_statistics(network: nn.Module, wanted: bool) -> Iterator[None]:
    """Let norms over the batch go by their running statistics, if wanted."""
    norms = [m for m in network.modules() if isinstance(m, _NormBase) and m.training]
    for norm in norms if wanted else ():
        norm.eval()
    try:
        yield
    finally:
        for norm in norms if wanted else ():
            norm.train()
