"""Data that no file holds, as the command line names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pollinate.errors import UsageError
from pollinate.files import as_yaml, write_text
from pollinate.overrides import override
from pollinate.recipes import plain

KEPT_DATA = Path("runs", "data")  # files that commands in a study's report still name


@contextmanager
def data_override(
    data: str | Path | Mapping[str, Any] | None, *, for_later: bool
) -> Iterator[list[str]]:
    """Yield the override that names the data, none for None.

    Args:
        data: a file, the name of an option, or what a file would hold; paths in that are relative
            to the current folder.
        for_later: whether a file that is made must outlast the block.
    """
    if not isinstance(data, Mapping):
        yield [] if data is None else [override("data", data)]
        return
    content = data_yaml(data)
    with TemporaryDirectory(prefix="pollinate-") as temporary:
        name = sha256(content.encode()).hexdigest()[:12] if for_later else "data"
        file = (KEPT_DATA.absolute() if for_later else Path(temporary)) / f"{name}.yaml"
        write_text(file, content, private=True)  # a source's options may hold a token
        yield [override("data", file)]


def data_yaml(data: Mapping[str, Any]) -> str:
    """Return the content of a data file, with absolute paths."""
    from pipeline.configuration.composition import absolute_paths  # takes a moment

    try:
        values = absolute_paths(plain(data, "data"), Path.cwd())
    except UsageError as error:
        raise UsageError(
            f"{error}; rows that Python holds go into po.MixedDataModule, files are named here"
        ) from error
    return as_yaml(values)
