"""Rows that can't be used, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from datamodules.cache import Cache, default_cache
from datamodules.table import SourceTable
from pollinate.errors import PollinateError


@dataclass
class DataErrorPolicy:
    r"""What to do about faults of the data.

    skip_bad_rows: leave rows out that can't be read; else they are an error.
    strict: rows of valid or test that stand in an earlier split, too, are an error.
    every_split: a task without rows in a split is an error; else that split has no score of it.
    cache: where results are kept that take long to compute.

    Examples:
        >>> from pathlib import Path
        >>> import pollinate as po
        >>> _ = Path("prices.csv").write_text("name,price\n" + "tea,3\nsoup,much\npie,5\n" * 20)
        >>> data = po.MixedDataModule(
        ...     {"prices": po.Dataset("prices.csv", inputs={"text": "name"})},
        ...     tasks={"price": po.tasks.Regression("prices", target="price")},
        ...     policy=po.DataErrorPolicy(skip_bad_rows=True),  # else they are an error
        ... )
        >>> data.setup()
        >>> data.notes[0].splitlines()[0]
        'prices: 20 bad rows left out'
    """

    skip_bad_rows: bool = False
    strict: bool = False
    every_split: bool = False
    cache: Cache = field(default_factory=lambda: Cache(default_cache()))


SHOWN = 5  # rows that are listed


def doubt_notes(name: str, table: SourceTable) -> Iterator[str]:
    """Yield a note if rows may not be what they seem to be."""
    if table.doubtful:
        row, why = next(iter(table.doubts.items()))
        rows = "row is" if table.doubtful == 1 else "rows are"
        yield f"{name}: {table.doubtful:,} {rows} doubtful, the first in {table.place(row)}: {why}"


@dataclass
class BadRows:
    """What is wrong with which row of a data set.

    name: the data set's; table: its rows.
    found: {row: what is wrong}, column first.
    """

    name: str
    table: SourceTable
    found: dict[int, str] = field(default_factory=dict)

    def add(self, column: str, errors: Mapping[int, str]) -> None:
        """Add {row: what is wrong} with a column's cells; a row's first error stays."""
        where = f"column {column}: " if column else ""
        for row, error in errors.items():
            self.found.setdefault(row, f"{where}{error}")

    def listed(self) -> str:
        """Return the first rows, a line each: place, column, error."""
        rows = sorted(self.found)
        lines = [f"  {self.table.place(row)}, {self.found[row]}" for row in rows[:SHOWN]]
        if len(rows) > SHOWN:
            lines.append(f"  and {len(rows) - SHOWN:,} more")
        return "\n".join(lines)

    def refuse(self) -> None:
        """Stop if there is any."""
        if self.found:
            rows = "row that" if len(self.found) == 1 else "rows that"
            raise PollinateError(
                f"data set {self.name} has {len(self.found):,} {rows} can't be used:\n"
                f"{self.listed()}\nmend them, or leave them out: data.on_bad_row=skip "
                "(in Python policy=po.DataErrorPolicy(skip_bad_rows=True))"
            )

    def note(self) -> str:
        """Say which rows are left out; empty if none."""
        if not self.found:
            return ""
        return f"{self.name}: {len(self.found):,} bad rows left out\n{self.listed()}"

    def without(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows (n,) that are not among the bad ones."""
        return rows[~np.isin(rows, np.fromiter(self.found, np.int64, len(self.found)))]
