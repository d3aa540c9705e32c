"""The order in which training takes a data set's rows: endless, and without state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


class ShuffledStream:
    """One permutation of the rows after another.

    Permutation c is a function of (seed, name, c) alone, so any stretch of the stream can be had
    without what came before it. With lengths, each window of ``bucket`` batches of a permutation is
    sorted by length and its batches are put in a random order: a batch's rows are of like length,
    and every row still comes once in a permutation.

    Args:
        seed: of the order.
        name: of the data set.
        size: rows N, >= 1.
        lengths: (N,) of the rows, or None.
        bucket: batches a window, >= 1; 1 leaves the order as it is.
    """

    KEPT = 2  # permutations in memory: a stretch may lie across two

    def __init__(
        self, seed: int, name: str, size: int, lengths: np.ndarray | None = None, bucket: int = 1
    ) -> None:
        self.seed = seed
        self.name = name
        self.size = size
        self.lengths = lengths if bucket > 1 else None
        self.bucket = bucket
        self._order = lru_cache(maxsize=self.KEPT)(self._make)

    def rows(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows from place ``start`` on, (count,) int64, and the pass of each, (count,).

        A batch is taken to be ``count`` rows, and the first one to begin where that fits ``start``.
        """
        places = np.arange(start, start + count, dtype=np.int64)
        passes, offsets = np.divmod(places, self.size)
        rows = np.empty(count, dtype=np.int64)
        for number in np.unique(passes):
            chosen = passes == number
            # where, in this pass, the first batch that begins in it begins
            shift = (start - int(number) * self.size) % count if self.lengths is not None else 0
            order = self._order(int(number), count if self.lengths is not None else 0, shift)
            rows[chosen] = order[offsets[chosen]]
        return rows, passes

    def _make(self, number: int, count: int, shift: int) -> np.ndarray:
        key = [self.seed, number, *self.name.encode()]
        generator = np.random.default_rng(np.random.SeedSequence(key))
        kind = np.int32 if self.size <= np.iinfo(np.int32).max else np.int64
        order = generator.permutation(self.size).astype(kind)
        if self.lengths is None:
            return order
        return bucket_by_length(order, self.lengths, count, shift, self.bucket, generator)

    def __getstate__(self) -> dict[str, object]:
        """Leave the permutations out: a worker makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_order"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=self.KEPT)(self._make)


def bucket_by_length(
    order: np.ndarray,
    lengths: np.ndarray,
    count: int,
    shift: int,
    bucket: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Sort windows of whole batches by length, and shuffle the batches of each.

    Args:
        order: (N,) rows.
        lengths: (N,) of the rows.
        count: rows of a batch.
        shift: places before the first whole batch.
        bucket: batches of a window.
        generator: of the batches' order.
    """
    found = order.copy()
    whole = (len(order) - shift) // count * count
    for start in range(shift, shift + whole, bucket * count):
        stop = min(start + bucket * count, shift + whole)
        window = order[start:stop]
        batches = window[np.argsort(lengths[window], kind="stable")].reshape(-1, count)
        found[start:stop] = generator.permutation(batches).reshape(-1)
    return found


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
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2 * self.lanes)(self._make)
