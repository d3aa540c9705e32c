"""An order of rows that is shuffled by buffer, whose parts read their own stretches of files."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

BUFFER = 1024  # rows that are shuffled among each other
STEP_LANES, SLOT_LANES = 4, 4


class LaneStream:
    """Rows of a large set in an order that reads files nearly from front to back, without state.

    The rows are cut into blocks of neighbours, and each block belongs to one of S x Q lanes for
    good. A lane goes through its blocks in an order drawn anew for each pass, and through a block's
    rows in a random order. With G rows a step, place p of the stream is slot v = p mod G of step
    u = p div G, and comes from lane (u mod S, v mod Q). So where the number of processes divides Q
    and G (process r takes the slots r, r + world, ...) and that of workers divides S (worker w
    takes every W-th step), each reads its own blocks only; and neither number changes the order.

    Args:
        seed: of the order.
        name: of the data set.
        size: rows N, >= 1.
        count: G, >= 1.
        buffer: rows of a block, >= 1; small sets have smaller blocks.
    """

    def __init__(self, seed: int, name: str, size: int, count: int, buffer: int = BUFFER) -> None:
        self.seed, self.name, self.size, self.count = seed, name, size, count
        self.slots = min(SLOT_LANES, count)
        lanes = STEP_LANES * self.slots
        self.block = max(1, min(buffer, size // (4 * lanes)))
        blocks = -(-size // self.block)
        self.steps = STEP_LANES if blocks >= lanes else 1
        self.slots = self.slots if blocks >= self.slots else 1
        self.lanes = self.steps * self.slots
        self.owned = self._generator(-1, 0).permutation(blocks)
        self._order = lru_cache(maxsize=2 * self.lanes)(self._make)

    def rows(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows from place ``start`` on, (count,) int64, and each one's pass."""
        step, slot = np.divmod(np.arange(start, start + count, dtype=np.int64), self.count)
        column = slot % self.slots
        lane = (step % self.steps) * self.slots + column
        in_step = -(-(self.count - column) // self.slots)  # rows that a step takes from the lane
        place = (step // self.steps) * in_step + slot // self.slots
        rows, passes = np.empty(count, np.int64), np.empty(count, np.int64)
        for number in np.unique(lane):
            chosen = np.flatnonzero(lane == number)
            length = len(self._order(int(number), 0))
            passes[chosen], offsets = np.divmod(place[chosen], length)
            for turn in np.unique(passes[chosen]):
                own = passes[chosen] == turn
                rows[chosen[own]] = self._order(int(number), int(turn))[offsets[own]]
        return rows, passes

    def _make(self, lane: int, turn: int) -> np.ndarray:
        """Return a lane's rows in the order of one pass."""
        generator = self._generator(lane, turn)
        parts = []
        for block in generator.permutation(self.owned[lane :: self.lanes]):
            stop = min((block + 1) * self.block, self.size)
            parts.append(generator.permutation(np.arange(block * self.block, stop)))
        return np.concatenate(parts)

    def _generator(self, lane: int, turn: int) -> np.random.Generator:
        key = [self.seed, lane + 1, turn, *self.name.encode()]
        return np.random.default_rng(np.random.SeedSequence(key))

    def __getstate__(self) -> dict[str, object]:
        """Leave the orders out: a worker makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_order"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Undo ``__getstate__``."""
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2 * self.lanes)(self._make)
