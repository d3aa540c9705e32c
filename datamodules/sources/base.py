"""The source contract: where raw columns come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from datamodules.cache import Cache
from datamodules.table import Table
from pipeline.errors import UsageError


class Source(ABC):
    """Reads one data set.

    Attributes:
        location: where the rows come from, for people: a path, an address, a package's file.
    """

    location: str

    @abstractmethod
    def load(self, cache: Cache) -> Table:
        """Read every row; ``cache`` may keep what takes long to make.

        Images are uint8 arrays (n, H, W) or (n, H, W, 3), paths, or contents of files; texts are
        str; labels str, numbers, or lists of them.

        Raises:
            pipeline.errors.PollinateError: the data can't be found or read.
        """

    def stream(self, cache: Cache, columns: Sequence[str]) -> Table:
        """Read every row, but leave the given columns where they are.

        Raises:
            UsageError: the source can't.
        """
        raise UsageError(
            f"{self.location} can't be streamed; streaming is for sources csv, tsv, json and "
            "parquet. Others are mapped into memory without a copy, or small: leave streaming out"
        )
