"""Rows of files by number, a block at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.columns import Lazy
from datamodules.files.base import Row, RowFile

KEPT = 256  # blocks in memory


class BlockReader:
    """Reads the blocks that an index names; those used last are kept.

    Args:
        paths: files.
        open: path -> its reader.
        index: (B, 3) int64: file, mark and first row of each block; rows are counted over all
            files.
        size: rows of all files.
        as_cell: value -> cell, None for a text that stands for an empty cell.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        open: Callable[[Path], RowFile],  # noqa: A002  # what it does
        index: np.ndarray,
        size: int,
        as_cell: Callable[[Any], Any],
    ) -> None:
        self.paths = list(paths)
        self.open = open
        self.index = index
        self.firsts = index[:, 2]
        self.size = size
        self.as_cell = as_cell
        self.reads = 0  # blocks that were read from files
        self.files: dict[int, RowFile] = {}
        self.blocks: OrderedDict[int, list[Row]] = OrderedDict()

    def column(self, name: str) -> Lazy:
        """Return a column that is read when it is asked for."""

        def read(rows: np.ndarray) -> list[Any]:
            return [self.as_cell(self.row(int(row)).values.get(name)) for row in rows]

        return Lazy(self.size, read)

    def row(self, number: int) -> Row:
        """Return a row."""
        block = int(np.searchsorted(self.firsts, number, side="right")) - 1
        if block in self.blocks:
            self.blocks.move_to_end(block)
        else:
            self.blocks[block] = self._read(block)
            if len(self.blocks) > KEPT:
                self.blocks.popitem(last=False)
        row = self.blocks[block][number - int(self.firsts[block])]
        return Row() if row.error else row

    def _read(self, block: int) -> list[Row]:
        self.reads += 1
        file, mark, first = (int(value) for value in self.index[block])
        last = self.size if block + 1 == len(self.index) else int(self.firsts[block + 1])
        if file not in self.files:
            self.files[file] = self.open(self.paths[file])
        return self.files[file].block(mark, last - first)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is open: a worker opens its own."""
        return {**self.__dict__, "files": {}, "blocks": OrderedDict()}
