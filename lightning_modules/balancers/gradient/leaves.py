"""Which parameters a loss reaches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from torch import Tensor


def leaves(loss: Tensor) -> list[Tensor]:
    """Return the tensors whose ``.grad`` ``loss.backward()`` would fill, in no special order."""
    found, seen, stack = [], set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)  # only the nodes that accumulate have one
        if variable is not None:
            found.append(variable)
        stack.extend(parent for parent, _ in node.next_functions)
    return found


def reached_by_several(losses: Iterable[Tensor]) -> list[Tensor]:
    """Return the tensors that at least two of the losses reach; all of them for a single loss."""
    reached = [leaves(loss) for loss in losses]
    counts = Counter(id(leaf) for found in reached for leaf in found)
    least = min(2, len(reached))
    unique = {id(leaf): leaf for found in reached for leaf in found}
    return [leaf for key, leaf in unique.items() if counts[key] >= least]
