"""Pairs of several kinds, or of several teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning_modules.transfer.base import TransferStep
from lightning_modules.transfer.pairs import Pair, Pairs


class UnitedPairs(Pairs):
    """All pairs of all members, whose names differ.

    Args:
        members: all of tasks, or none; >= 1.
    """

    def __init__(self, members: Sequence[Pairs]) -> None:
        self.members = list(members)
        self.of_tasks = self.members[0].of_tasks
        self._owner: dict[str, Pairs] = {}

    def find(self, step: TransferStep) -> dict[str, Pair]:
        """Ask all."""
        found: dict[str, Pair] = {}
        for member in self.members:
            pairs = member.find(step)
            self._owner |= dict.fromkeys(pairs, member)
            found |= pairs
        return found

    def whose(self, name: str) -> str:
        """Return what the one says that found it."""
        return self._owner[name].whose(name)

    def wanted(self, sizes: Mapping[str, int]) -> list[str]:
        """Return what any of them wants."""
        return [task for member in self.members for task in member.wanted(sizes)]
