"""JSON: one object a line, or a list of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from datamodules.sources.base import FileSource
from datamodules.sources.row_files import (
    FileRow,
    LineRows,
    RowFile,
    TableSchema,
    known_encoding,
    text_lines,
)
from pollinate.errors import PollinateError


class JsonLinesRows(LineRows):
    """One JSON object a line; the columns are all names that any of them has."""

    @cached_property
    def columns(self) -> list[str]:  # type: ignore[override]  # found by reading the file
        """Names, in the order in which they turn up."""
        return list(dict.fromkeys(name for row in self.rows() for name in row.values))

    def parsed(self, lines: Iterator[str]) -> Iterator[FileRow]:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield self._row(line, number)

    def _row(self, line: str, number: int) -> FileRow:
        try:
            value = json.loads(line, object_pairs_hook=unique_names)
            json.dumps(value, ensure_ascii=False).encode()  # fails for half a surrogate pair
        except PollinateError as error:
            return FileRow(error=str(error), line=number)
        except (ValueError, RecursionError) as error:
            return FileRow(error=f"the line is not valid JSON: {error}", line=number)
        return as_row(value, number, "a line")


class JsonListRows(RowFile):
    """A file that is one list of objects, or an object with one such list; read as a whole."""

    unit = "item"

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        self.path = path
        self.items = parse_objects(path, "".join(text_lines(path, encoding)))
        names = dict.fromkeys(name for row in self.rows() for name in row.values)
        self.columns = list(names)

    def rows(self) -> Iterator[FileRow]:
        for number, item in enumerate(self.items, start=1):
            yield as_row(item, number, "an item")


def open_json(path: Path, encoding: str = "utf-8") -> RowFile:
    """Read a .json or .jsonl file: whichever of the two its first character says."""
    if path.suffix.lower() == ".jsonl":
        return JsonLinesRows(path, encoding)
    first = next((line for line in text_lines(path, encoding) if line.strip()), "")
    try:
        one_line = isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        one_line = False
    if one_line and sum(1 for line in text_lines(path, encoding) if line.strip()) > 1:
        return JsonLinesRows(path, encoding)
    return JsonListRows(path, encoding)


def parse_objects(path: Path, text: str) -> list[Any]:
    """Return the list in a JSON file."""
    try:
        value = json.loads(text, object_pairs_hook=unique_names)
        json.dumps(value, ensure_ascii=False).encode()
    except PollinateError as error:
        raise PollinateError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise PollinateError(f"{path} is not valid JSON: {error}") from error
    lists = [item for item in value.values() if isinstance(item, list)] if is_object(value) else []
    if len(lists) == 1:
        value = lists[0]
    if not isinstance(value, list):
        raise PollinateError(
            f"{path} must be a list of objects, one object with such a list, or an object a line; "
            f"got {text.strip()[:40]}"
        )
    return value


def unique_names(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object whose names differ; of two values of one name JSON would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise PollinateError(f"the object has the name {twice!r} twice")
    return found


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def as_row(value: Any, number: int, what: str) -> FileRow:
    if not is_object(value):
        shown = json.dumps(value, ensure_ascii=False)[:40]
        return FileRow(error=f"{what} must be a JSON object, got {shown}", line=number)
    return FileRow(value, line=number)


class Json(FileSource):
    r"""One object a line (.jsonl), or a list of objects.

    Args:
        path: a file, a pattern, a list of them, or {split: either}.
        encoding: of the files.
        folder: where relative paths of pictures and recordings begin; default: the file's folder.
        empty: texts that stand for an empty cell, besides null and the empty text.

    Examples:
        >>> from pathlib import Path
        >>> import pollinate as po
        >>> _ = Path("tea.jsonl").write_text('{"review": "tea", "stars": 5}\n{"review": "soup"}\n')
        >>> rows = po.sources.Json("tea.jsonl").table()
        >>> {name: list(column) for name, column in rows.columns.items()}
        {'review': ['tea', 'soup'], 'stars': [5, None]}
    """

    format = "json"

    def __init__(
        self,
        path: str | Sequence[str] | Mapping[str, Any],
        encoding: str = "utf-8",
        folder: str | None = None,
        empty: Sequence[str] = (),
    ) -> None:
        super().__init__(path, folder, empty)
        self.encoding = known_encoding(encoding)

    def open(self, path: Path) -> RowFile:
        """Return the reader of a file."""
        return open_json(path, self.encoding)

    def schema(self, files: Sequence[RowFile]) -> TableSchema:
        """Return the narrowest type for each key that any object has."""
        from datamodules.sources.arrow_table import rows_of, schema_of

        return schema_of(rows_of(files))

    def options(self) -> dict[str, Any]:
        """Return what, besides the files, the rows depend on."""
        return {**super().options(), "encoding": self.encoding}
