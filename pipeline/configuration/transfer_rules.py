"""Rules for the names that a user gives to sources and methods of ``transfer``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.configuration.reserved_names import RESERVED
from pipeline.configuration.suggest import shown

NAMED = ("sources", "methods")  # options that are {name of the user's choice: ...}
INNER = "method"  # that of transfer=annealed


def transfer_problems(transfer: Any, path: str = "transfer") -> Iterator[str]:
    """Yield names that no part of a network can have, of methods inside methods, too."""
    if not isinstance(transfer, dict):
        return
    for key in NAMED:
        nodes = transfer.get(key)
        for name, node in nodes.items() if isinstance(nodes, dict) else ():
            yield from _name_problems(f"{path}.{key}", str(name))
            yield from transfer_problems(node, f"{path}.{key}.{name}")
    yield from transfer_problems(transfer.get(INNER), f"{path}.{INNER}")


def _name_problems(path: str, name: str) -> Iterator[str]:
    if not name or "." in name:
        yield f"{path}: a name must not be empty and has no dot, got {shown(name)}"
    elif name in RESERVED or name.startswith("__"):
        yield f"{path}: {name!r} is reserved by PyTorch's containers; choose another name"
