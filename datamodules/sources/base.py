"""The source contract: where raw columns come from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from datamodules.columns import Column


class Source(ABC):
    """Reads one data set.

    Attributes:
        location: where the rows come from, for people: a path, an address, a package's file.
    """

    location: str

    @abstractmethod
    def load(self) -> dict[str, Column]:
        """Read every column.

        Returns:
            {column: n values}, all of one length n. Images: uint8 (n, H, W) or (n, H, W, 3);
            texts: list of str; labels: list of str, or an array of numbers.

        Raises:
            pipeline.errors.PollinateError: the data can't be found or read.
        """
