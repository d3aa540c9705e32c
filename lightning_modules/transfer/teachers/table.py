"""A teacher's outputs for all training rows of a data set, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from datamodules.arrays import OnDisk
from datamodules.cache import Cache
from datamodules.columns import Column, take
from datamodules.progress import track
from datamodules.seal import is_intact, seal
from pipeline.errors import PollinateError
from pipeline.version import VERSION

if TYPE_CHECKING:
    from pipeline.prediction.predictor import Predictor

KIND, FORMAT = "outputs", 1  # FORMAT is raised when older entries can't be read
WINDOW = 512  # rows whose raw cells are in memory
BATCH = 64  # rows that go through the teacher at a time, at most
HAS, UNREADABLE = "has", "unreadable"


@dataclass
class Pass:
    """One pass of a teacher over rows.

    predictor: the teacher.
    tasks: of the teacher.
    columns: {modality: raw cells of all rows of the data set}.
    rows: (N,) those that are wanted.
    what: is computed, for people.
    """

    predictor: Predictor
    tasks: Sequence[str]
    columns: Mapping[str, Column]
    rows: np.ndarray
    what: str

    def write(self, folder: Path) -> None:
        """Fill a folder with {task: (N, ...)}, and which rows the task has an output for.

        Raises:
            PollinateError: no row has what the teacher reads.
        """
        arrays, count = OnDisk(folder), len(self.rows)
        has = {task: arrays.create(f"{HAS}.{task}", (count,), bool) for task in self.tasks}
        tables: dict[str, np.ndarray] = {}
        errors: dict[int, str] = {}
        starts = range(0, count, WINDOW)
        for start in track(starts, self.what, len(starts)):
            for places, outputs in self._window(start, errors):
                for task, values in outputs.items():
                    rows = values.float().cpu().numpy()
                    if task not in tables:
                        tables[task] = arrays.create(task, (count, *rows.shape[1:]), np.float32)
                    tables[task][places], has[task][places] = rows, True
        self._require_outputs(tables, errors)
        arrays.put(UNREADABLE, {str(row): error for row, error in errors.items()})
        for table in (*tables.values(), *has.values()):
            if isinstance(table, np.memmap):
                table.flush()
        seal(folder)

    def _window(
        self, start: int, errors: dict[int, str]
    ) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """Yield (places among the rows, {task: outputs}) of some rows."""
        chosen = self.rows[start : start + WINDOW]
        columns = {name: list(take(cells, chosen)) for name, cells in self.columns.items()}
        found: dict[int, str] = {}
        for rows, outputs in self.predictor.outputs(columns, self.tasks, BATCH, found):
            yield start + np.array(rows), outputs
        errors |= {start + row: error for row, error in found.items()}

    def _require_outputs(self, tables: Mapping[str, np.ndarray], errors: Mapping[int, str]) -> None:
        for task in self.tasks:
            if task not in tables:
                why = next(iter(errors.values()), "they are empty")
                raise PollinateError(
                    f"{self.what}: no training row has what the task {task} reads "
                    f"({', '.join(self.columns)}): {why}; check transfer.inputs"
                )


class OutputTable:
    """A teacher's outputs by row.

    Args:
        folder: that a ``Pass`` filled.
    """

    def __init__(self, folder: Path) -> None:
        self.arrays = OnDisk(folder)
        self.tables: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def rows(self, task: str, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return a task's outputs (n, ...) for rows of the split, and which have some, (n,) bool.

        Args:
            task: of the teacher.
            index: (n,) the rows' numbers in their split.
        """
        table, has = self._table(task)
        chosen = index.cpu().numpy()
        return torch.from_numpy(table[chosen]), torch.from_numpy(has[chosen])

    def complete(self, task: str) -> bool:
        """Say whether all rows have an output."""
        return bool(self._table(task)[1].all())

    @property
    def unreadable(self) -> dict[int, str]:
        """{place of the row: why the teacher can't read it}."""
        return {int(row): error for row, error in self.arrays.value(UNREADABLE).items()}

    def _table(self, task: str) -> tuple[np.ndarray, np.ndarray]:
        if task not in self.tables:
            self.tables[task] = self.arrays.get(task), self.arrays.get(f"{HAS}.{task}")
        return self.tables[task]


def output_table(
    cache: Cache, digest: str, keys: Mapping[str, Any], one: Pass, say: Callable[[str], None]
) -> OutputTable:
    """Return a teacher's outputs, computed now if they aren't kept.

    Args:
        cache: where they are kept.
        digest: of the teacher's file, its preprocessing among it.
        keys: {modality: what its cells depend on}.
        one: the pass that computes them.
        say: tells the user.

    Raises:
        PollinateError: they can't be computed, or the disk is full.
    """

    def make(folder: Path) -> None:
        say(f"computing {one.what}, once")
        one.write(folder)

    rows = hashlib.sha256(np.ascontiguousarray(one.rows, np.int64).tobytes()).hexdigest()
    key = [FORMAT, VERSION, torch.__version__, digest, dict(keys), sorted(one.tasks), rows]
    return OutputTable(cache.get(KIND, key, make, is_intact))
