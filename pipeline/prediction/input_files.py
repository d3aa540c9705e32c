"""Opens an input as training read its files, unless the command line says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from datamodules.media_files import IMAGES, SOUNDS
from datamodules.regular_files import file_kind, require_regular
from datamodules.sources.csv import Csv, CsvRows
from datamodules.sources.folder import METADATA, metadata, referenced_files
from datamodules.sources.json import JsonLinesRows, open_json
from datamodules.sources.parquet import ParquetRows
from datamodules.sources.row_files import (
    FileRow,
    MediaRows,
    RowFile,
    TextRows,
    known_encoding,
)
from pollinate.errors import PollinateError, UsageError

UTF8 = "utf-8"
DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON: Mapping[str, Callable[[Path, str], RowFile]] = {
    ".json": open_json,
    ".jsonl": JsonLinesRows,
    ".ndjson": JsonLinesRows,
}
TABLES = (*DELIMITERS, *JSON, ".parquet", ".txt")


@dataclass(frozen=True)
class ReaderOptions:
    """How a file is read, as far as the command line says it.

    delimiter, quote: of csv and tsv; encoding: of texts; empty: texts that stand for an empty cell;
    folder: where relative paths of pictures and sounds begin.
    """

    delimiter: str | None = None
    quote: str | None = None
    encoding: str | None = None
    empty: Sequence[str] | None = None
    folder: str | None = None

    def given(self, names: Collection[str]) -> dict[str, Any]:
        """Return those of these options that are given."""
        own = {name: getattr(self, name) for name in names}
        return {name: value for name, value in own.items() if value is not None}


@dataclass(frozen=True)
class TrainedReading:
    """How training read a data set.

    dataset: its name; columns: that its inputs come from; options: format, delimiter, quote,
        encoding and empty, as far as the format has them.
    """

    dataset: str
    columns: frozenset[str]
    options: Mapping[str, Any] = field(default_factory=dict)

    def suits(self, columns: Collection[str]) -> bool:
        """Say whether a file has a column that the data set has."""
        return not self.columns.isdisjoint(columns)


@dataclass(frozen=True)
class OpenedInput:
    """rows: of the input; note: how they are read, if that is not the usual way."""

    rows: RowFile
    note: str = ""


def check_input(path: Path) -> None:
    """Check, before anything is loaded, that there is a file or folder of a known kind."""
    if path.is_dir():
        return
    if file_kind(path) is None:
        raise PollinateError(f"input {path} must be a file or folder; nothing is there")
    require_regular(path)
    if path.suffix.lower() not in {*TABLES, *IMAGES, *SOUNDS}:
        raise UsageError(
            f"input must be a folder, a picture or recording, or end in {', '.join(TABLES)}, got "
            f"{path.name}; rename or convert it"
        )


def open_input(
    path: Path,
    options: ReaderOptions,
    trained: Sequence[TrainedReading] = (),
    wanted: Collection[str] = (),
) -> OpenedInput:
    """Return the rows of a table, of a picture or sound, or of a folder of them.

    What the command line doesn't say is read as training read the first data set of the same format
    that has a column of the file; a file with another delimiter is parted by that of its ending.

    Args:
        path: of the input.
        options: what the command line says.
        trained: how training read its data sets.
        wanted: columns that may be asked for, besides those of the data sets.

    Raises:
        PollinateError: it can't be read, or has no rows.
        UsageError: an option isn't one, or isn't for this kind of file.
    """
    check_input(path)
    suffix = "" if path.is_dir() else path.suffix.lower()
    require_options(path, suffix, options)
    try:
        found = _open(path, suffix, options, trained, wanted)
        found.rows.require_rows()
    except OSError as error:
        raise PollinateError(f"input {path} can't be read: {error.strerror}") from error
    if options.folder is not None:
        found.rows.base = Path(options.folder)
    return found


def require_options(path: Path, suffix: str, options: ReaderOptions) -> None:
    """Check that options are for this kind of file, and can be used."""
    texts = suffix in DELIMITERS or suffix in JSON or suffix == ".txt"
    tables = suffix in DELIMITERS or suffix in JSON or suffix == ".parquet"
    fitting = {
        "delimiter": suffix in DELIMITERS,
        "quote": suffix in DELIMITERS,
        "encoding": texts,
        "empty": tables,
        "folder": tables,
    }
    for name in options.given(list(fitting)):
        if not fitting[name]:
            kind = f"{suffix} files" if suffix else "folders"
            raise UsageError(f"{name} is not for {kind}, got {path}; leave it out")
    Csv(str(path), **options.given(["delimiter", "quote", "encoding"]))  # checks them
    if options.folder is not None and not Path(options.folder).is_dir():
        raise UsageError(f"folder must be a folder that is there, got {options.folder}")


def _open(
    path: Path,
    suffix: str,
    options: ReaderOptions,
    trained: Sequence[TrainedReading],
    wanted: Collection[str],
) -> OpenedInput:
    if not suffix:
        return OpenedInput(FolderRows(path))
    if suffix in IMAGES | SOUNDS:
        return OpenedInput(MediaRows(path))
    if suffix == ".txt":
        encodings = [one.options["encoding"] for one in trained if "encoding" in one.options]
        encoding = options.encoding or next(iter(encodings), UTF8)
        require_meant_encoding(path, encoding, options)
        return OpenedInput(TextRows(path, encoding), _note({"encoding": encoding}, options, ""))
    form = "csv" if suffix in DELIMITERS else "json" if suffix in JSON else "parquet"
    readings = [one for one in trained if one.options.get("format") == form]
    usual = TrainedReading("", frozenset(wanted))
    problem: PollinateError | None = None
    first: OpenedInput | None = None
    for reading in [*readings, usual]:
        for delimiter in _delimiters(suffix, reading, options):
            try:
                found = _open_table(path, suffix, delimiter, reading, options)
            except PollinateError as error:
                problem = problem or error
                continue
            if reading.suits(found.rows.columns) or not {*wanted}.isdisjoint(found.rows.columns):
                return found
            first = first or found
    if first is None:
        assert problem is not None
        raise problem
    return first


def _delimiters(
    suffix: str, reading: TrainedReading, options: ReaderOptions
) -> Sequence[str | None]:
    """Return what may part the cells, the likeliest first; None for a format without."""
    if suffix not in DELIMITERS:
        return [None]
    if options.delimiter is not None:
        return [options.delimiter]
    known = reading.options.get("delimiter", DELIMITERS[suffix])
    return list(dict.fromkeys([known, DELIMITERS[suffix]]))


def _open_table(
    path: Path,
    suffix: str,
    delimiter: str | None,
    reading: TrainedReading,
    options: ReaderOptions,
) -> OpenedInput:
    given = options.given(["encoding", "quote", "empty"])
    used = {"encoding": UTF8, "quote": '"', "empty": (), **reading.options, **given}
    encoding = known_encoding(used["encoding"])
    require_meant_encoding(path, encoding, options)
    rows: RowFile
    if delimiter is not None:
        rows = CsvRows(path, delimiter, encoding, used["quote"])
    elif suffix in JSON:
        rows = JSON[suffix](path, encoding)
    else:
        rows = ParquetRows(path)
    rows.empty = frozenset(used["empty"])
    told: dict[str, Any] = {"empty": sorted(rows.empty - {""})} if rows.empty - {""} else {}
    if suffix != ".parquet" and encoding != UTF8:
        told["encoding"] = encoding
    if delimiter is not None:
        told |= {"delimiter": delimiter} if delimiter != DELIMITERS[suffix] else {}
        told |= {"quote": used["quote"]} if used["quote"] != '"' else {}
    return OpenedInput(rows, _note(told, options, reading.dataset))


def _note(used: Mapping[str, Any], options: ReaderOptions, dataset: str) -> str:
    """Say what is taken over from training."""
    own = {n: v for n, v in used.items() if not options.given([n]) and v != UTF8}
    words = ", ".join(f"{name}={value!r}" for name, value in own.items())
    source = f"data set {dataset}" if dataset else "the training data"
    return f"read as {source} was: {words}" if words else ""


def require_meant_encoding(path: Path, encoding: str, options: ReaderOptions) -> None:
    """Check that an encoding of training, which may read any bytes, isn't put on UTF-8."""
    if options.encoding is not None or encoding == UTF8:
        return
    if is_utf8_beyond_ascii(path):
        raise PollinateError(
            f"{path} is UTF-8, and training read {encoding}; say which it is: encoding=utf-8, or "
            f"encoding={encoding}"
        )


def is_utf8_beyond_ascii(path: Path) -> bool:
    """Say whether a file's bytes are UTF-8, and not all of them ASCII."""
    beyond = False
    try:
        with path.open(encoding="utf-8", newline="") as file:
            while text := file.read(1 << 20):
                beyond = beyond or not text.isascii()
                if "\0" in text:  # UTF-16 without a mark
                    return False
    except UnicodeDecodeError:
        return False
    return beyond


class FolderRows(MediaRows):
    """A folder of pictures or sounds with its metadata file's further columns, as in training.

    Files that it names in other columns, such as masks, are no rows.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.more = metadata(path)
        absent = sorted(set(self.more) - set(map(self._name, self.files)))
        if absent:
            raise PollinateError(
                f"the metadata file of {path} names files that are not there: "
                f"{', '.join(absent[:5])}"
            )
        others = {
            file.resolve()
            for cells in self.more.values()
            for file in referenced_files(path, cells).values()
        }
        self.found.forget({*others, *((path / name).resolve() for name in METADATA)})
        self.note = self.found.note(path)
        own = [file for file in self.files if self._name(file) in self.more]
        rest = [file for file in self.files if self._name(file) not in self.more]
        kept = {*own, *(file for file in rest if file.resolve() not in others)}
        self.files = [file for file in self.files if file in kept]
        names = chain(["path"], *(cells for cells in self.more.values()))
        self.columns = list(dict.fromkeys(names))

    def _name(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    def rows(self) -> Iterator[FileRow]:
        for number, file in enumerate(self.files, start=1):
            more = self.more.get(self._name(file), {})
            cells = {**dict.fromkeys(self.columns), **more}
            yield FileRow({**cells, "path": str(file.relative_to(self.path))}, line=number)
