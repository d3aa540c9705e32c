"""The contract of name maps: the same weights under another implementation's names."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Names(ABC):
    """Translates the names of a state dict."""

    @abstractmethod
    def __call__(self, name: str) -> str:
        """Return the network's name for a weight of the file."""
