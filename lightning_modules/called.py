"""Which parts of a module are called."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def called_parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module's parts that are called: its children, out of lists and dicts of them."""
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from called_parts(child)
        elif not isinstance(child, nn.ParameterList | nn.ParameterDict):
            yield child
