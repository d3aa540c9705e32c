"""A network's blocks, from its input on."""

from __future__ import annotations

from torch import nn

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
